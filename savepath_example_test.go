package sessionring_test

import (
	"errors"
	"fmt"

	"github.com/sessionring/sessionring"
)

// The example of phpredis's documentation.
func ExampleParseSavePath() {
	sp, err := sessionring.ParseSavePath("tcp://host1:6379?weight=1&database=2, " +
		"tcp://host2:6379?weight=2&timeout=2.5, tcp://host3:6379?weight=2&auth=secret")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, n := range sp.Nodes {
		fmt.Println(n.Address, n.Weight, n.Timeout, n.ID())
	}
	fmt.Println(sp)
	// Output:
	// host1:6379 1 1s tcp://host1:6379?database=2
	// host2:6379 2 2.5s tcp://host2:6379
	// host3:6379 2 1s tcp://host3:6379
	// tcp://host1:6379?database=2, tcp://host2:6379?weight=2&timeout=2.5, tcp://host3:6379?weight=2&auth=***
}

// Everything that is wrong comes in one error.
func ExampleParseSavePath_errors() {
	_, err := sessionring.ParseSavePath("tcp:///run/redis.sock, tcp://host2?timeout=0,5&auth=secret, tcp://host3?wieght=2")
	var bad *sessionring.SavePathError
	if errors.As(err, &bad) {
		for _, e := range bad.Entries {
			fmt.Printf("byte %d, %s\n\t%s\n\t%s\n", e.Offset, e.Entry, e.Problem, e.Remedy)
		}
	}
	// Output:
	// byte 0, tcp:///run/redis.sock
	// 	a socket's path does not go with tcp://
	// 	write unix:///run/redis.sock
	// byte 23, tcp://host2?timeout=0
	// 	timeout is read as 0 and must be above 0
	// 	write timeout=0.5: a comma ends an entry
	// byte 45, ***
	// 	it is no host, and no address that phpredis can connect to
	// 	write timeout=0.5: a comma ends an entry
	// byte 60, tcp://host3?wieght=***
	// 	unknown parameter wieght
	// 	did you mean weight?
}

// What phpredis reads in a surprising way is read the same way, and told.
func ExampleParseSavePath_warnings() {
	sp, err := sessionring.ParseSavePath("tcp://user:secret@10.0.0.1/3?weight=1.99")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range sp.Warnings {
		fmt.Println(w.Message)
	}
	// Output:
	// weight=1.99 is read as 1
	// user and password in front of the host are ignored, as in phpredis; write auth[user]= and auth[pass]=
	// the path behind the host is ignored, as in phpredis; write database= for a database
}

// A string that is shared with PHP may hold what only other software reads.
func ExampleLenient() {
	sp, err := sessionring.ParseSavePath("tcp://10.0.0.1?cluster=redis", sessionring.Lenient())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sp, "-", sp.Warnings[0].Message)
	// Output:
	// tcp://10.0.0.1:6379 - unknown parameter cluster; leave it out, or parse leniently where the string is shared with PHP
}

// Passwords are shown only on request.
func ExampleSavePath_Reveal() {
	sp, err := sessionring.ParseSavePath("redis://app:s%2Cecret@10.0.0.1/2")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sp)
	fmt.Println(sp.Reveal())
	// Output:
	// tcp://10.0.0.1:6379?database=2&auth[user]=app&auth[pass]=***
	// tcp://10.0.0.1:6379?database=2&auth[user]=app&auth[pass]=s%2Cecret
}
