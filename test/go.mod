module github.com/sessionring/sessionring/test

go 1.26.0

require github.com/sessionring/sessionring v0.0.0

replace github.com/sessionring/sessionring => ..
