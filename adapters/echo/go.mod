module github.com/sessionring/sessionring/adapters/echo

go 1.26.0

require github.com/sessionring/sessionring v0.0.0

require github.com/labstack/echo-contrib/v5 v5.0.1 // indirect

replace github.com/sessionring/sessionring => ../..

replace github.com/sessionring/sessionring/adapters/gorilla => ../gorilla
