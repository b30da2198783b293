module github.com/sessionring/sessionring/cmd/sessionring

go 1.26.0

require github.com/sessionring/sessionring v0.0.0

replace github.com/sessionring/sessionring => ../..
