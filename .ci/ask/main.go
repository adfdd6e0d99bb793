// Command ask waits until a coord answers at the given address, writes a value and reads it back. It is how CI checks
// that the service really runs, without needing curl.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	if err := ask(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "ask:", err)
		os.Exit(1)
	}
}

func ask(base string) error {
	deadline := time.Now().Add(5 * time.Minute) // a cold build comes first
	for {
		if _, err := do("GET", base+"/readyz", ""); err == nil {
			break
		} else if time.Now().After(deadline) {
			return fmt.Errorf("not ready in time: %w", err)
		}
		time.Sleep(200 * time.Millisecond) // between questions to another process
	}
	if _, err := do("PUT", base+"/v1/nodes/ci/greeting?parents", "hello"); err != nil {
		return err
	}
	got, err := do("GET", base+"/v1/nodes/ci/greeting?raw", "")
	if err == nil && got != "hello" {
		err = fmt.Errorf("wrote hello, read %q", got)
	}
	return err
}

func do(method, url, body string) (string, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text)
	}
	return string(text), err
}
