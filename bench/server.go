package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// server is a system's processes, its members, on loopback and each with a fresh directory on the same disk.
type server struct {
	system // the member that leads
	cmds   []*exec.Cmd
	logs   []string
}

// ports are those of one member.
type ports struct{ client, peer, election int }

func freePorts(members int) ([]ports, error) {
	all := make([]ports, members)
	for i := range all {
		for _, port := range []*int{&all[i].client, &all[i].peer, &all[i].election} {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			defer ln.Close() // when all are known, so that none is there twice
			*port = ln.Addr().(*net.TCPAddr).Port
		}
	}
	return all, nil
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// start starts a system's members in dir and waits until they answer.
func start(name, binary, dir string, members int) (*server, error) {
	s := &server{}
	if err := s.start(name, binary, dir, members); err != nil {
		s.stop()
		return nil, fmt.Errorf("couldn't start %s: %w", name, err)
	}
	return s, nil
}

func (s *server) start(name, binary, dir string, members int) error {
	all, err := freePorts(members)
	if err != nil {
		return err
	}
	systems := make([]system, members)
	for i := range systems {
		own, err := os.MkdirTemp(dir, strings.ReplaceAll(name, "/", "-"))
		if err != nil {
			return err
		}
		var cmd *exec.Cmd
		if systems[i], cmd, err = member(name, binary, own, all, i); err == nil {
			err = s.run(cmd, filepath.Join(own, "log"))
		}
		if err != nil {
			return err
		}
	}
	for range 600 {
		if s.system, err = leading(systems); err == nil {
			err = s.prepare(keys)
		}
		if err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(s.logs[0])
	return fmt.Errorf("it doesn't answer: %w\n%s", err, text)
}

// leading returns the member that leads, or the only one.
func leading(all []system) (system, error) {
	if len(all) == 1 {
		return all[0], nil
	}
	for _, s := range all {
		if c, ok := s.(clustered); ok && c.leads() {
			return s, nil
		}
	}
	return nil, fmt.Errorf("none of its members leads")
}

func (s *server) run(cmd *exec.Cmd, log string) error {
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmds, s.logs = append(s.cmds, cmd), append(s.logs, log)
	return nil
}

// member returns the i-th member of a system, and what starts it.
func member(name, binary, dir string, all []ports, i int) (system, *exec.Cmd, error) {
	data := filepath.Join(dir, "data")
	addr, peer := loopback(all[i].client), loopback(all[i].peer)
	switch name {
	case "coord":
		return &service{addr}, exec.Command(binary, "serve", "--name", memberName(i), "--data-dir", data, "--listen", addr, "--peer-listen", peer,
			"--cluster", memberList(all, ""), "--log-level", "warn"), nil
	case "zookeeper":
		cmd, err := zookeeperCommand(dir, all, i)
		return &zookeeper{addr}, cmd, err
	case "etcd":
		url, peer := "http://"+addr, "http://"+peer
		return &etcd{addr}, exec.Command(binary, "--name", memberName(i), "--data-dir", data, "--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", memberList(all, "http://"), "--log-level", "error"), nil
	case "echo", "net/http":
		self, _ := os.Executable()
		cmd := exec.Command(self, "-child", name, "-listen", addr)
		if name == "echo" {
			return &echo{addr}, cmd, nil
		}
		return &null{addr}, cmd, nil
	}
	return nil, nil, fmt.Errorf("no system is called %q; there are coord, zookeeper and etcd", name)
}

func memberName(i int) string { return fmt.Sprintf("n%d", i+1) }

// memberList names all members by the addresses that they have for each other.
func memberList(all []ports, scheme string) string {
	var list []string
	for i, p := range all {
		list = append(list, memberName(i)+"="+scheme+loopback(p.peer))
	}
	return strings.Join(list, ",")
}

// zookeeperCommand runs ZooKeeper as Debian installs it, with all its defaults but the number of connections.
func zookeeperCommand(dir string, all []ports, i int) (*exec.Cmd, error) {
	data := filepath.Join(dir, "data")
	config := fmt.Sprintf("tickTime=2000\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n", data, all[i].client)
	if len(all) > 1 {
		config += "initLimit=10\nsyncLimit=5\n"
		for n, p := range all {
			config += fmt.Sprintf("server.%d=127.0.0.1:%d:%d\n", n+1, p.peer, p.election)
		}
	}
	file := filepath.Join(dir, "zoo.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(data, "myid"), fmt.Append(nil, i+1), 0o600); err != nil {
		return nil, err
	}
	jars, err := filepath.Glob("/usr/share/java/*.jar")
	if err != nil || len(jars) == 0 {
		return nil, fmt.Errorf("ZooKeeper's jars are not in /usr/share/java; install Debian's package zookeeper")
	}
	classes := "/etc/zookeeper/conf"
	for _, jar := range jars {
		base := filepath.Base(jar)
		for _, want := range []string{"zookeeper", "slf4j-api", "slf4j-simple", "netty", "jline", "commons-", "metrics-core", "snappy", "audience", "log4j-1.2", "reload4j", "slf4j-log4j"} {
			if strings.HasPrefix(base, want) {
				classes += ":" + jar
				break
			}
		}
	}
	program := "org.apache.zookeeper.server.ZooKeeperServerMain"
	if len(all) > 1 {
		program = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
	}
	return exec.Command("java", "-Xmx1g", "-cp", classes, program, file), nil
}

func (s *server) stop() {
	for _, cmd := range s.cmds {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// cpu returns the processor time that the members have used.
func (s *server) cpu() (total time.Duration) {
	for _, cmd := range s.cmds {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			return 0
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		total += time.Duration(user+system) * 10 * time.Millisecond // ticks of 10 ms, everywhere
	}
	return total
}

// resident returns the bytes of memory that the members hold.
func (s *server) resident() (total int) {
	for _, cmd := range s.cmds {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", cmd.Process.Pid))
		if err != nil {
			return 0
		}
		pages, _ := strconv.Atoi(strings.Fields(string(text))[1])
		total += pages * os.Getpagesize()
	}
	return total
}
