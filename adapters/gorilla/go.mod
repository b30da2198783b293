module github.com/sessionring/sessionring/adapters/gorilla

go 1.26.0

require github.com/sessionring/sessionring v0.0.0

require (
	github.com/gorilla/securecookie v1.1.2 // indirect
	github.com/gorilla/sessions v1.4.0 // indirect
)

replace github.com/sessionring/sessionring => ../..
