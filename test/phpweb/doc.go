// Package phpweb is a web application of two halves, PHP and Go, behind one address and one cookie, on one set of
// sessions. Its pages and settings are those that docs/share-with-php.md shows, and its tests run them.
package phpweb
