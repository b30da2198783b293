//go:build race

package sessionring

// ringUnderRace: the race detector makes the ring's arithmetic ten times slower; tests of it count fewer lists.
const ringUnderRace = true
