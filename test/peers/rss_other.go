//go:build !linux

package main

// Resident memory is not measured here; the tables show a dash.
func rss() uint64     { return 0 }
func peakRSS() uint64 { return 0 }
func resetPeakRSS()   {}
