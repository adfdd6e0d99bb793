package replica

import "fmt"

// raftLog turns raft's log lines into facts. Raft reports only impossible things as fatal, so those panic.
type raftLog struct {
	fact func(Level, string, ...any)
}

func (l raftLog) Debug(v ...any)                 {}
func (l raftLog) Debugf(format string, v ...any) {}
func (l raftLog) Info(v ...any)                  { l.fact(Debug, "raft: "+fmt.Sprint(v...)) }
func (l raftLog) Infof(format string, v ...any)  { l.fact(Debug, "raft: "+fmt.Sprintf(format, v...)) }
func (l raftLog) Warning(v ...any)               { l.fact(Warn, "raft: "+fmt.Sprint(v...)) }
func (l raftLog) Warningf(format string, v ...any) {
	l.fact(Warn, "raft: "+fmt.Sprintf(format, v...))
}
func (l raftLog) Error(v ...any)                 { l.fact(Warn, "raft: "+fmt.Sprint(v...)) }
func (l raftLog) Errorf(format string, v ...any) { l.fact(Warn, "raft: "+fmt.Sprintf(format, v...)) }
func (l raftLog) Fatal(v ...any)                 { panic("raft: " + fmt.Sprint(v...)) }
func (l raftLog) Fatalf(format string, v ...any) { panic("raft: " + fmt.Sprintf(format, v...)) }
func (l raftLog) Panic(v ...any)                 { panic("raft: " + fmt.Sprint(v...)) }
func (l raftLog) Panicf(format string, v ...any) { panic("raft: " + fmt.Sprintf(format, v...)) }
