package coordtest

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/coord-kv/coord/coord/internal/dialing"
)

// network joins the members of a cluster and its clients: over loopback, or in memory. It knows who may reach whom.
type network struct {
	memory bool

	mu      sync.Mutex
	ports   map[string]*port
	conns   map[*conn]bool
	paused  map[int]bool    // members whose network stands still
	cutOff  map[int]bool    // members that don't reach the other members
	stopped map[string]bool // sessions whose connections stand still
	changed chan struct{}   // closed when any of these changes
	nextMem int             // port of the last listener in memory
}

// nobody stands for a client where a member's index would be.
const nobody = -1

// ends say what is at the ends of a connection: members, or nobody and perhaps a session.
type ends struct {
	from, to int
	session  func() string // nil: none
}

func newNetwork(memory bool) *network {
	return &network{
		memory: memory, ports: map[string]*port{}, conns: map[*conn]bool{}, paused: map[int]bool{}, cutOff: map[int]bool{},
		stopped: map[string]bool{}, changed: make(chan struct{}), nextMem: 20_000,
	}
}

// change changes who reaches whom.
func (n *network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *network) flows(e ends) bool {
	ok, _ := n.watch(e)
	return ok
}

// watch reports whether bytes pass, and returns a channel that is closed when that may have changed.
func (n *network) watch(e ends) (bool, <-chan struct{}) {
	session := ""
	if e.session != nil {
		session = e.session()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	between := e.from != nobody && e.to != nobody && (n.cutOff[e.from] || n.cutOff[e.to])
	return !between && !n.paused[e.from] && !n.paused[e.to] && !n.stopped[session], n.changed
}

// port is an address that a member listens on. The listener outlives the member, so that nobody else can take the
// address while the member is down.
type port struct {
	n      *network
	owner  int
	client bool // for clients, so that connections are to be wrapped here
	addr   net.Addr
	ln     net.Listener // nil in memory

	mu   sync.Mutex
	door *door // of the member that runs; nil while it doesn't
}

// listen opens a port.
func (n *network) listen(owner int, client bool) (*port, error) {
	p := &port{n: n, owner: owner, client: client}
	if n.memory {
		n.nextMem++
		p.addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: n.nextMem}
	} else {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		p.ln, p.addr = ln, ln.Addr()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[p.addr.String()] = p
	return p, nil
}

// serve hands connections to the member that runs, until the port is closed.
func (p *port) serve() {
	for p.ln != nil {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		if p.hand(c) != nil {
			c.Close()
		}
	}
}

var errRefused = errors.New("connection refused: the member is down")

// hand gives a connection to the member that runs.
func (p *port) hand(c net.Conn) error {
	p.mu.Lock()
	d := p.door
	p.mu.Unlock()
	if d == nil {
		return errRefused
	}
	if p.client {
		w := p.n.conn(c, ends{from: nobody, to: p.owner})
		w.local = p.addr
		if p.n.memory {
			w.remote = p.addr // it is loopback, whoever it is
		}
		p.n.remember(w)
		c = w
	}
	select {
	case d.conns <- c:
		return nil
	case <-d.closed:
		c.Close()
		return errRefused
	}
}

// open returns a listener for a member that starts.
func (p *port) open() net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.door = &door{port: p, conns: make(chan net.Conn), closed: make(chan struct{})}
	return p.door
}

// close ends the port for good.
func (p *port) close() {
	if p.ln != nil {
		p.ln.Close()
	}
}

// door is a port as one life of a member sees it: a net.Listener.
type door struct {
	port   *port
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

func (d *door) Addr() net.Addr { return d.port.addr }

func (d *door) Close() error {
	d.once.Do(func() { close(d.closed) })
	d.port.mu.Lock()
	defer d.port.mu.Unlock()
	if d.port.door == d {
		d.port.door = nil
	}
	return nil
}

// dialMember is how a member reaches the others.
func (n *network) dialMember(from int) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) { return n.dial(ctx, addr, ends{from: from}) }
}

// dialClient is how a client reaches members.
func (n *network) dialClient(ctx context.Context, _, addr string) (net.Conn, error) {
	return n.dial(ctx, addr, ends{from: nobody, session: dialing.Session(ctx)})
}

func (n *network) dial(ctx context.Context, addr string, e ends) (net.Conn, error) {
	n.mu.Lock()
	p := n.ports[addr]
	n.mu.Unlock()
	if p == nil {
		return nil, errors.New("no member of this cluster listens there")
	}
	e.to = p.owner
	for {
		ok, changed := n.watch(e)
		if ok {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c, err := n.raw(ctx, p)
	if err != nil {
		return nil, err
	}
	w := n.conn(c, e)
	n.remember(w)
	return w, nil
}

func (n *network) raw(ctx context.Context, p *port) (net.Conn, error) {
	if p.ln != nil {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", p.addr.String())
	}
	mine, theirs := net.Pipe()
	if err := p.hand(theirs); err != nil {
		mine.Close()
		return nil, err
	}
	return mine, nil
}

func (n *network) remember(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[c] = true
}

func (n *network) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

// breakAll breaks every connection of a member.
func (n *network) breakAll(member int) {
	n.mu.Lock()
	var all []*conn
	for c := range n.conns {
		if c.between.from == member || c.between.to == member {
			all = append(all, c)
		}
	}
	n.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}
