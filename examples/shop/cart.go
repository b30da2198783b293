package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sessionring/sessionring/websession"
)

type product struct {
	ID, Name, About string
	Cents           int
}

var products = []product{
	{"teapot", "Teapot", "Cast iron, 0.8 l, keeps warm for an hour.", 3900},
	{"cup", "Cup", "Porcelain, thin as a leaf.", 1250},
	{"assam", "Assam", "Black, strong, 100 g.", 690},
	{"matcha", "Matcha", "Stone-ground, 30 g.", 1880},
}

func find(id string) (product, bool) {
	i := slices.IndexFunc(products, func(p product) bool { return p.ID == id })
	if i < 0 {
		return product{}, false
	}
	return products[i], true
}

const cartKey = "cart"

// cart says how many of each product.
type cart map[string]int

// with returns a cart with n more of a product.
func (c cart) with(id string, n int) cart {
	c = maps.Clone(c)
	if c == nil {
		c = cart{}
	}
	if c[id] += n; c[id] <= 0 {
		delete(c, id)
	}
	return c
}

// Line is a line of the cart's page.
type Line struct {
	product
	Count, Total int
}

// Lines are in the catalogue's order.
func (c cart) Lines() (lines []Line) {
	for _, p := range products {
		if n := c[p.ID]; n > 0 {
			lines = append(lines, Line{p, n, n * p.Cents})
		}
	}
	return lines
}

// Count is of all products.
func (c cart) Count() (n int) {
	for _, line := range c.Lines() {
		n += line.Count
	}
	return n
}

// Total is the price in cents.
func (c cart) Total() (cents int) {
	for _, line := range c.Lines() {
		cents += line.Total
	}
	return cents
}

// parallel says what happens when two requests of one visitor change the cart at once.
type parallel string

// String and Set make it a flag.
func (p *parallel) String() string {
	if p == nil || *p == "" {
		return "merge"
	}
	return string(*p)
}

// Set refuses what is none.
func (p *parallel) Set(s string) error {
	switch s {
	case "merge", "lock", "last":
		*p = parallel(s)
		return nil
	}
	return fmt.Errorf("merge, lock or last")
}

func (p *parallel) apply(opt *websession.Options) {
	switch p.String() {
	case "merge":
		opt.Merge = mergeCarts
	case "lock":
		opt.Lock = websession.LockRequests
	case "last": // websession.MergeKeys: of one key the last writer wins
	}
}

// mergeCarts is called when the session was changed while a request ran: what this request put into the cart, or
// took out of it, goes on top of what the other request left there.
func mergeCarts(base, mine, theirs *websession.Session) error {
	before, err := websession.Value[cart](base, cartKey)
	if err != nil {
		return err
	}
	ours, err := websession.Value[cart](mine, cartKey)
	if err != nil {
		return err
	}
	merged, err := websession.Value[cart](theirs, cartKey)
	if err != nil {
		return err
	}
	if err := websession.MergeKeys(base, mine, theirs); err != nil { // all other keys
		return err
	}
	for _, p := range products {
		if n := ours[p.ID] - before[p.ID]; n != 0 {
			merged = merged.with(p.ID, n)
		}
	}
	if merged == nil {
		return nil // there is none, and there is to be none
	}
	return websession.Put(theirs, cartKey, merged)
}
