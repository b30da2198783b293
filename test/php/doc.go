// Package php holds the tests in which PHP's own session handler and this module work on the same sessions.
package php
