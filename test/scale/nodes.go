package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/sessionring/sessionring"
)

// nodeList is a list of nodes: host numbers and weights.
type nodeList struct {
	hosts   []int
	weights []int
}

// equal is n nodes of weight 1.
func equal(n int) nodeList {
	var l nodeList
	for i := range n {
		l = l.with(i, 1)
	}
	return l
}

// unequal is n nodes of weights 1 to 10, drawn.
func unequal(n int, seed uint64) nodeList {
	draw := rand.New(rand.NewPCG(seed, uint64(n)))
	var l nodeList
	for i := range n {
		l = l.with(i, 1+draw.IntN(10))
	}
	return l
}

// with is l and one host more.
func (l nodeList) with(host, weight int) nodeList {
	return nodeList{append(slices.Clone(l.hosts), host), append(slices.Clone(l.weights), weight)}
}

// without is l less the node at.
func (l nodeList) without(at int) nodeList {
	return nodeList{slices.Delete(slices.Clone(l.hosts), at, at+1), slices.Delete(slices.Clone(l.weights), at, at+1)}
}

// reweighted is l with another weight of the node at.
func (l nodeList) reweighted(at, weight int) nodeList {
	w := slices.Clone(l.weights)
	w[at] = weight
	return nodeList{l.hosts, w}
}

func (l nodeList) path() *sessionring.SavePath {
	sp := &sessionring.SavePath{}
	for i, h := range l.hosts {
		sp.Nodes = append(sp.Nodes, sessionring.Node{Network: "tcp", Address: fmt.Sprintf("host%04d:6379", h), Weight: l.weights[i]})
	}
	return sp
}
