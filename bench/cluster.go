package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// How each system says whether a member leads. Clients talk to the one that does, which spares all systems the same way.

func (s *service) leads() bool {
	resp, err := http.Get("http://" + s.addr + "/readyz?leader")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (z *zookeeper) leads() bool {
	nc, err := net.Dial("tcp", z.addr)
	if err != nil {
		return false
	}
	defer nc.Close()
	fmt.Fprint(nc, "srvr")
	text, _ := io.ReadAll(nc)
	return strings.Contains(string(text), "Mode: leader")
}

func (e *etcd) leads() bool {
	c, err := e.client()
	if err != nil {
		return false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := c.Status(ctx, e.addr)
	return err == nil && s.Leader == s.Header.MemberId
}
