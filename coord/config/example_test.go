package config_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/config"
)

type Shop struct {
	Limit   int           `config:"limit,required"`
	Timeout time.Duration `config:"timeout"`
	DB      struct {
		URL string `config:"url"` // the key db.url
	} `config:"db"`
}

func (s *Shop) Validate() error {
	if s.Limit < 1 {
		return errors.New("limit must be at least 1")
	}
	return nil
}

func Example() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	first, err := config.Set(ctx, client, "shop", map[string]string{"limit": "20", "db.url": "postgres://db/shop"},
		config.Author("ann"), config.Comment("first"))
	if err != nil {
		log.Fatal(err)
	}

	shop, err := config.Bind[Shop](ctx, client, "shop", config.Default(Shop{Timeout: time.Second}))
	if err != nil {
		log.Fatal(err)
	}
	defer shop.Close()
	fmt.Println(shop.Get().Limit, shop.Get().Timeout, shop.Get().DB.URL)

	changes := make(chan string)
	shop.OnChange(func(old, now Shop) { changes <- fmt.Sprint("limit ", old.Limit, " -> ", now.Limit) })

	_, err = config.Set(ctx, client, "shop", map[string]string{"limit": "50"}, config.Author("bob"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-changes)

	_, err = config.Rollback(ctx, client, "shop", first.Number, config.Comment("50 was too much"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-changes)
	// Output:
	// 20 1s postgres://db/shop
	// limit 20 -> 50
	// limit 50 -> 20
}

func ExampleOnError() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := config.Set(ctx, client, "kiosk", map[string]string{"limit": "20"}); err != nil {
		log.Fatal(err)
	}

	failures := make(chan error)
	kiosk, err := config.Bind[Shop](ctx, client, "kiosk", config.OnError(func(err error) { failures <- err }))
	if err != nil {
		log.Fatal(err)
	}
	defer kiosk.Close()

	if _, err := config.Set(ctx, client, "kiosk", map[string]string{"limit": "0"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-failures)
	fmt.Println("in force:", kiosk.Get().Limit, "of version", kiosk.Version().Number)
	// Output:
	// config: version 2 of kiosk is not in force: limit must be at least 1
	// in force: 20 of version 1
}

// A path is bound to one value.
func ExampleBind_path() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	verbose, err := config.Bind[bool](ctx, client, "/flags/verbose", config.Default(false))
	if err != nil {
		log.Fatal(err)
	}
	defer verbose.Close()
	changed := make(chan bool)
	verbose.OnChange(func(_, now bool) { changed <- now })

	if _, err := client.Create(ctx, "/flags/verbose", []byte("true"), coord.Parents(), coord.OrSet()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-changed, verbose.Get())
	// Output: true true
}

func ExampleUpdate() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	for range 2 {
		_, err := config.Update(ctx, client, "counter", func(values map[string]string) error {
			values["visits"] += "I"
			delete(values, "closed")
			return nil
		}, config.Author("door"))
		if err != nil {
			log.Fatal(err)
		}
	}
	versions, err := config.KeyHistory(ctx, client, "counter", "visits")
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range versions {
		fmt.Println(v.Number, v.Author, *v.Value)
	}
	// Output:
	// 2 door II
	// 1 door I
}
