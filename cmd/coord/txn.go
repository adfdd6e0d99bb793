package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
)

func newTxn(g *globals) *cobra.Command {
	w, file, session := &writing{}, "", ""
	c := &cobra.Command{
		Use:   "txn [-f FILE]",
		Short: "Do several operations at once, all or none",
		Long: `Do several operations at once, all or none. The transaction is JSON, as /v1/txn takes it, from a file or
standard input: if all "checks" hold, the "ops" are done, else the "else" if there is one. docs/api.md has the
operations, which include reads, access control lists and quotas.

Exit code 4: a check or an operation's condition doesn't hold, and there is no "else". 3: a node is missing. Nothing was
changed then, and the error says which operation it was.`,
		Example: `  coord txn -f change.json
  echo '{"checks":[{"path":"/app/db-url","version":1}],
         "ops":[{"op":"set","path":"/app/db-url","data":"new"}]}' | coord txn`,
		Args: noArgs,
		RunE: g.asks(func(ctx context.Context, a *asking, _ []string) error {
			body, err := readTxn(a, file)
			if err != nil {
				return err
			}
			req := w.write(a.c)
			if req.Session = sessionID(session); req.Session != "" {
				if req.Secret = sessionSecret(); req.Secret == "" {
					return noSecret(req.Session)
				}
			}
			res, err := a.Txn(ctx, body, req)
			if err != nil {
				return failed(err, "do the transaction")
			}
			a.printTxn(res)
			return nil
		}),
	}
	c.Flags().StringVarP(&file, "file", "f", "-", `the file; "-" is standard input`)
	c.Flags().StringVar(&session, "session", "", "the session to act in (or COORD_SESSION)")
	w.addTo(c, false)
	return g.command(c)
}

func readTxn(a *asking, file string) ([]byte, error) {
	name, in := "standard input", a.io.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usageError(a.c, err)
		}
		defer f.Close()
		name, in = file, f
	} else if isTerminal(in) {
		a.note("reading the transaction from standard input; Ctrl-D ends it")
	}
	body, err := a.readInput(name, in, maxTxn)
	if err == nil && !json.Valid(body) {
		err = usageError(a.c, jsonError(name, body))
	}
	return body, err
}

// jsonError says where the first error is.
func jsonError(name string, body []byte) error {
	var v any
	err := json.Unmarshal(body, &v)
	if at, ok := errors.AsType[*json.SyntaxError](err); ok && at.Offset > 0 {
		return fmt.Errorf("%s is not JSON, at byte %d: %w", name, at.Offset, err)
	}
	return fmt.Errorf("%s is not JSON: %w", name, err)
}

func (a *asking) printTxn(res *httpapi.TxnResult) {
	switch a.output {
	case "json":
		a.out.json(res.Body)
		return
	case "table":
		a.note("done at zxid %d, the branch was %s", res.Zxid, strconv.Quote(res.Branch))
	}
	rows := [][]string{}
	for i := range res.Results {
		r := &res.Results[i]
		rows = append(rows, []string{r.Op, r.Path, resultCell(r)})
	}
	a.out.table(rows)
}

// resultCell says in a few words what came of an operation.
func resultCell(r *httpapi.OpResult) string {
	switch {
	case r.Exists != nil:
		return strconv.FormatBool(*r.Exists)
	case r.Rank != nil:
		return "rank " + fmt.Sprint(*r.Rank)
	case r.Deleted != nil:
		return plural(int(*r.Deleted), "node")
	case r.Op == "get":
		return cell(r.Bytes())
	case r.Op == "children" || r.Op == "subtree":
		return plural(len(r.Children)+len(r.Nodes), "node")
	case r.Stat != nil:
		return fmt.Sprintf("version %d, etag %s", r.Stat.Version, r.Stat.ETag)
	}
	return "ok"
}
