package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/queue"
	"github.com/coord-kv/coord/internal/child"
	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

func newQueue(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:     "queue",
		Aliases: []string{"queues"},
		Short:   "Queues: each item to one consumer at a time",
		Long: `A queue hands each item to one consumer at a time, until one has acknowledged it. What a consumer had that fails or
dies goes to another one. The highest priority comes first, and within one who was pushed first.`,
	})
	c.AddCommand(pushItem(g), popItem(g), listQueues(g),
		removeNamed(g, "queue", httpapi.QueuesURL, "with all that is in it", "coord queue rm jobs"))
	return c
}

func pushItem(g *globals) *cobra.Command {
	priority, key := 0, ""
	c := &cobra.Command{
		Use:   "push NAME [ITEM|-]",
		Short: "Put an item into a queue, and print its id",
		Long: `Put an item into a queue, and print its id. The queue is made if there is none. "-" reads the item from standard
input.`,
		Example: "  coord queue push jobs 'resize cat.png'\n  coord queue push jobs - --priority 9 < job.json",
		Args:    aName("queue", 1),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			data, err := a.data(args)
			if err != nil {
				return err
			}
			if key == "" {
				key = httpapi.NewKey()
			}
			p, err := a.Push(ctx, args[0], data, priority, key)
			if err != nil {
				return failed(err, "push to queue %q", args[0])
			}
			if a.output == "json" {
				a.out.json(p.Body)
			} else {
				a.out.line("%s", p.ID)
			}
			return nil
		}),
	}
	c.Flags().IntVar(&priority, "priority", 0, "0 to 99; the highest comes first")
	c.Flags().StringVar(&key, "idempotency-key", "", "with the same key, the same item is pushed once")
	c.SetFlagErrorFunc(valueFlagError)
	return g.command(c)
}

// popFlags are the flags of coord queue pop.
type popFlags struct {
	wrapFlags
	try bool
}

func popItem(g *globals) *cobra.Command {
	o := &popFlags{}
	c := &cobra.Command{
		Use:   "pop NAME [--try|--wait 30s] [-- CMD [ARG...]]",
		Short: "Take an item from a queue: print it, or run a program with it",
		Long: `Take the first item from a queue, waiting for one. Without a program it is printed as it is, and acknowledged once that
is done.

With a program, that gets the item as its standard input. If it ends with 0 the item is acknowledged; otherwise it is returned
to its old place, and others may take it.
` + fmt.Sprintf(wrapperEnv, "the item") + `
  COORD_QUEUE           the name of the queue
  COORD_ITEM            the id of the item
  COORD_ITEM_TOKEN      a number that is higher each time that this item is taken
` + fmt.Sprintf(wrapperCodes, "an item") + `

Without a program: 3 if there is no item with --try, or none has come in the time of --wait.`,
		Example: `  coord queue pop jobs --try
  while coord queue pop jobs -- ./work.sh; do :; done`,
		RunE: g.asksForever(o.run),
	}
	o.add(c, "consumer", "who takes it, for those who look")
	c.Flags().BoolVar(&o.try, "try", false, "don't wait")
	exclusive(c, "try", "wait")
	return g.maybeWrapper(c, aName("queue", 0))
}

func (o *popFlags) run(ctx context.Context, a *asking, args []string) error {
	if err := o.check(a.c); err != nil {
		return err
	}
	s, done, err := o.session(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	x, err := o.take(ctx, a, s, args[0])
	if err != nil {
		return o.notTaken(ctx, args, err)
	}
	if len(args) == 1 {
		return a.printItem(ctx, args[0], x)
	}
	return o.wrapFlags.run(ctx, a, s, tenure{
		what: fmt.Sprintf("item %s of queue %q", x.ID, args[0]), see: "coord queue ls " + shellQuote(args[0]),
		ctx: x.Context(), release: x.Return, stdin: bytes.NewReader(x.Data),
		env: []string{"COORD_QUEUE=" + args[0], "COORD_ITEM=" + x.ID, fmt.Sprintf("COORD_ITEM_TOKEN=%d", x.Token)},
		ended: func(ctx context.Context, r child.Result) error {
			limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
			defer cancel()
			if r.Code == 0 && r.Reason == nil {
				return x.Ack(limited)
			}
			return x.Return(limited)
		},
	}, args[1:])
}

func (o *popFlags) take(ctx context.Context, a *asking, s *coord.Session, name string) (*queue.Item, error) {
	q := queue.New(s, name)
	if o.try || a.verbose || isTerminal(a.io.err) {
		limited, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		if x, err := q.TryReceive(limited); o.try || !errors.Is(err, queue.ErrEmpty) {
			return x, err
		}
		a.note("waiting for an item of queue %q", name) // a person can't tell it from a program that hangs
	}
	limited, cancel := o.limited(ctx, a)
	defer cancel()
	return q.Receive(limited)
}

// printItem prints the item and acknowledges it; if it can't be printed it is returned.
func (a *asking) printItem(ctx context.Context, name string, x *queue.Item) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	switch a.output {
	case "raw":
		a.out.Write(x.Data)
	case "json":
		a.out.encode(withData(map[string]any{"queue": name, "id": x.ID, "priority": x.Priority}, x.Data))
	default:
		a.out.value(x.Data)
	}
	if err := a.out.flush(); err != nil {
		x.Return(limited)
		return err
	}
	if err := x.Ack(limited); err != nil {
		return clientFailed(err, "acknowledge item %s of queue %q, which was printed", x.ID, name)
	}
	return nil
}

func (o *popFlags) notTaken(ctx context.Context, args []string, err error) error {
	name := args[0]
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx, fmt.Sprintf("took nothing from queue %q", name))
	case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, queue.ErrEmpty):
		return clientFailed(err, "take an item from queue %q", name)
	}
	e := &exitError{
		child: true, code: o.notGot, err: fmt.Errorf("queue %q has nothing to be had", name), why: "it is empty, or others have what is in it",
		next: "coord queue ls " + shellQuote(name),
	}
	if o.wait > 0 {
		e.why += fmt.Sprintf("; gave up after %s (--wait)", o.wait)
	}
	if len(args) == 1 {
		e.child, e.code = false, exitNotFound
	}
	return e
}

func listQueues(g *globals) *cobra.Command {
	p := httpapi.Page{}
	c := &cobra.Command{
		Use:   "ls [NAME]",
		Short: "List the queues, or the items of one in the order in which they are taken",
		Long: `List the queues with how many items each has and how many of these somebody has taken; with NAME the items of that one, in
the order in which they are taken. -o raw prints names or ids.`,
		Example: "  coord queue ls\n  coord queue ls jobs",
		Args:    maybeName("queue"),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			if len(args) == 0 {
				return a.listQueues(ctx, p)
			}
			return a.listItems(ctx, args[0], p)
		}),
	}
	addPage(c, &p)
	return g.command(c)
}

func (a *asking) listQueues(ctx context.Context, p httpapi.Page) error {
	rows := [][]string{{"QUEUE", "ITEMS", "TAKEN"}}
	return a.listing("queues", p, rows, func(p httpapi.Page) ([]byte, string, [][]string, error) {
		l, err := a.Names(ctx, httpapi.QueuesURL, p, a.read())
		if err != nil {
			return nil, "", nil, failed(err, "list the queues")
		}
		var rows [][]string
		for _, name := range l.Names {
			row := []string{plain(name), "", ""}
			if a.output == "table" {
				q, err := a.Queue(ctx, name, a.read())
				if errors.Is(err, &op.Error{Code: op.NoNode}) {
					continue // it has gone meanwhile
				}
				if err != nil {
					return nil, "", nil, failed(err, "look at queue %q", name)
				}
				row[1], row[2] = fmt.Sprint(q.Length), fmt.Sprint(q.Received)
			}
			rows = append(rows, row)
		}
		return l.Body, l.Next, rows, nil
	})
}

func (a *asking) listItems(ctx context.Context, name string, p httpapi.Page) error {
	rows := [][]string{{"ID", "PRIORITY", "PUSHED", "TAKEN BY", "ITEM"}}
	return a.listing("items", p, rows, func(p httpapi.Page) ([]byte, string, [][]string, error) {
		l, err := a.Items(ctx, name, p, a.read())
		if err != nil {
			return nil, "", nil, seeing(failed(err, "list queue %q", name), "coord queue push "+shellQuote(name)+" ITEM", op.NoNode)
		}
		var rows [][]string
		for _, x := range l.Items {
			rows = append(rows, []string{x.ID, fmt.Sprint(x.Priority), stamp(x.Pushed), plain(x.Session), cell(x.Bytes())})
		}
		return l.Body, l.Next, rows, nil
	})
}

// listing prints what a listing has from a page on: its array called name, or a table. one reads a page.
func (a *asking) listing(
	name string, p httpapi.Page, rows [][]string, one func(httpapi.Page) (body []byte, next string, rows [][]string, err error),
) error {
	var bodies [][]byte
	for {
		body, next, more, err := one(p)
		if err != nil {
			return err
		}
		bodies, rows = append(bodies, body), append(rows, more...)
		if p.After = next; next == "" || p.Limit > 0 {
			break
		}
	}
	switch a.output {
	case "json":
		form, err := merge(bodies, name)
		if err != nil {
			return err
		}
		if p.After != "" {
			form["next"], _ = quoteJSON(p.After)
		}
		return a.out.encode(form)
	case "raw":
		for _, row := range rows[1:] {
			a.out.line("%s", row[0])
		}
	default:
		a.out.table(rows)
	}
	if p.After != "" {
		a.note("there is more: --after %s", p.After)
	}
	return nil
}
