// Package test holds what proves sessionring on real servers: the fault matrix, PHP, browsers, and peers.
package test
