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

// server is a system's process, one member on loopback with a fresh directory.
type server struct {
	system
	version string
	cmd     *exec.Cmd
	log     string
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// start starts a system in dir and waits until it answers.
func start(name, binary, dir string) (*server, error) {
	ports := make([]int, 2)
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(dir, strings.ReplaceAll(name, "/", "-"))
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", ports[0])
	s := &server{log: filepath.Join(dir, "log")}
	switch name {
	case "coord":
		s.system = &service{addr}
		s.cmd = exec.Command(binary, "dev", "--port", strconv.Itoa(ports[0]), "--data", filepath.Join(dir, "data"))
	case "zookeeper":
		s.system = &zookeeper{addr}
		s.cmd, err = zookeeperCommand(dir, ports[0])
	case "etcd":
		s.system = &etcd{addr}
		url, peer := "http://"+addr, fmt.Sprintf("http://127.0.0.1:%d", ports[1])
		s.cmd = exec.Command(binary, "--data-dir", filepath.Join(dir, "data"), "--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "error")
	case "echo", "net/http":
		s.system = &echo{addr}
		if name != "echo" {
			s.system = &null{addr}
		}
		self, _ := os.Executable()
		s.cmd = exec.Command(self, "-child", name, "-listen", addr)
	default:
		return nil, fmt.Errorf("no system is called %q; there are coord, zookeeper and etcd", name)
	}
	if err != nil {
		return nil, err
	}
	out, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("couldn't start %s: %w", name, err)
	}
	for range 600 {
		if err = s.prepare(keys); err == nil {
			return s, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.stop()
	text, _ := os.ReadFile(s.log)
	return nil, fmt.Errorf("%s doesn't answer: %w\n%s", name, err, text)
}

// zookeeperCommand runs ZooKeeper as Debian installs it, with all its defaults but the number of connections.
func zookeeperCommand(dir string, port int) (*exec.Cmd, error) {
	config := fmt.Sprintf("tickTime=2000\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n", filepath.Join(dir, "data"), port)
	file := filepath.Join(dir, "zoo.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
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
	return exec.Command("java", "-Xmx1g", "-cp", classes, "org.apache.zookeeper.server.ZooKeeperServerMain", file), nil
}

func (s *server) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// cpu returns the processor time that the server has used.
func (s *server) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // ticks of 10 ms, everywhere
}

// resident returns the bytes of memory that the server holds.
func (s *server) resident() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.Atoi(strings.Fields(string(text))[1])
	return pages * os.Getpagesize()
}
