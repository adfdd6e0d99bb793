package frame

// The codes with which a server closes a connection, besides those of RFC 6455.
const (
	CloseProtocol   = 4000 // what the client sent is not the protocol; the Failed frame before it says what
	CloseExpired    = 4001 // the session has ended
	CloseSlow       = 4002 // the client has not read for too long
	CloseDenied     = 4003 // Hello was refused
	CloseSuperseded = 4004 // the session was resumed on another connection
)
