package httpapi

import (
	"context"
	"net/url"
	"time"
)

const servicesURL = "/v1/services"

// Services lists the services that have instances.
type Services struct {
	Answer   `json:"-"`
	Services []struct {
		Name                       string
		Passing, Warning, Critical int
		Tags                       []string
	} `json:"services"`
}

// Instances are those of a service that match.
type Instances struct {
	Answer    `json:"-"`
	Service   string     `json:"service"`
	Instances []Instance `json:"instances"`
}

// Instance is one place where a service can be had.
type Instance struct {
	ID         string            `json:"id"`
	Address    string            `json:"address"`
	Port       int               `json:"port"`
	Tags       []string          `json:"tags"`
	Meta       map[string]string `json:"meta"`
	Status     string            `json:"status"`
	Reason     string            `json:"reason"`
	Since      time.Time         `json:"since"`
	Registered time.Time         `json:"registered"`
}

// Services lists the services that have instances, by name.
func (c *Client) Services(ctx context.Context, o Read) (*Services, error) {
	return decode[Services](c.Do(ctx, read(servicesURL, nil, o)))
}

// Resolve reads the instances of a service: those that have all of the tags, and with passing only those that are.
func (c *Client) Resolve(ctx context.Context, service string, passing bool, tags []string, o Read) (*Instances, error) {
	q := url.Values{"tag": tags}
	if passing {
		q.Set("passing", "")
	}
	return decode[Instances](c.Do(ctx, read(servicesURL+"/"+url.PathEscape(service), q, o)))
}
