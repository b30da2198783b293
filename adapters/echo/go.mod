module github.com/sessionring/sessionring/adapters/echo

go 1.26.0

require (
	github.com/alexedwards/scs/v2 v2.9.0
	github.com/alicebob/miniredis/v2 v2.40.0
	github.com/gorilla/securecookie v1.1.2
	github.com/gorilla/sessions v1.4.0
	github.com/labstack/echo-contrib/v5 v5.0.1
	github.com/labstack/echo/v5 v5.0.4
	github.com/sessionring/sessionring v0.0.0
	github.com/sessionring/sessionring/adapters/gorilla v0.0.0
	github.com/sessionring/sessionring/adapters/scs v0.0.0
)

require (
	github.com/bits-and-blooms/bitset v1.24.4 // indirect
	github.com/buraksezer/consistent v1.0.0 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/failsafe-go/failsafe-go v0.9.8 // indirect
	github.com/redis/go-redis/v9 v9.23.0 // indirect
	github.com/yuin/gopher-lua v1.1.1 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/sessionring/sessionring => ../..

replace github.com/sessionring/sessionring/adapters/gorilla => ../gorilla

replace github.com/sessionring/sessionring/adapters/scs => ../scs
