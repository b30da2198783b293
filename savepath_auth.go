package sessionring

import "strings"

// readAuth reads auth, or sentinel_auth, as phpredis does: a string is the password; an array of two is user
// (key user, else 0) and password (key pass, else 1); an array of one is the password (key pass, else 0).
// Where no password comes of it no AUTH is sent.
func (e *entry) readAuth(name string, v *phpValue) Auth {
	for _, p := range e.query.params {
		if p.name == name && strings.Contains(p.rawValue, "+") {
			e.warn("a + in " + name + " is read as a blank; write %2B for a plus")
			break
		}
	}
	var user, password *phpValue
	if !v.isArray() {
		password = v
	} else {
		first := func(keys ...string) *phpValue {
			for _, key := range keys {
				if c := v.elements[key]; c != nil {
					return c
				}
			}
			return nil
		}
		switch len(v.elements) {
		case 1:
			password = first("pass", "0")
		case 2:
			user, password = first("user", "0"), first("pass", "1")
		default:
			e.warn(name + " has more than two elements, so that no AUTH is sent")
			return Auth{}
		}
		if password == nil {
			e.warn(name + " names no password, so that no AUTH is sent; write " + name + "[user]= and " + name + "[pass]=")
			return Auth{}
		}
		for _, c := range v.elements {
			if c.isArray() {
				e.warn(name + "[…][…] is an array and read as the word Array")
			} else if c.repeated {
				e.warn("an element of " + name + " is given more than once; the last one counts")
			}
		}
	}
	if password.castString() == "" {
		e.warn("the password is empty, and sent so")
	}
	auth := Auth{Password: NewSecret(password.castString())}
	if user != nil {
		auth.HasUser, auth.Username = true, user.castString()
	}
	return auth
}

// readRedisURL takes user, password and database from where redis:// and rediss:// have them.
func (e *entry) readRedisURL(u phpURL) {
	if u.hasUser {
		user, userOK := unescapeURL(u.user)
		password, passwordOK := unescapeURL(u.pass)
		switch {
		case !userOK || !passwordOK:
			e.fail("a % in user or password is not followed by two hexadecimal digits", "write %25 for a %")
		case !u.hasPass && user != "":
			e.fail("there is a user and no password", "write redis://user:password@host, or redis://:password@host without a user")
		case !u.hasPass:
		case e.query.get(paramAuth) != nil:
			e.fail("the password is given twice, in front of the host and as auth", "leave one out")
		default:
			e.node.Auth = Auth{HasUser: user != "", Username: user, Password: NewSecret(password)}
		}
	}
	path := strings.TrimPrefix(u.path, "/")
	if path == "" {
		return
	}
	if leadingDigits(path, len(path)) != len(path) || len(path) > 9 {
		e.fail("the path is no number of a database", "write redis://host:6379/2, or database=2")
		return
	}
	database := 0
	for i := range len(path) {
		database = database*10 + int(path[i]-'0')
	}
	if e.query.get(paramDatabase) != nil && e.node.Database != database {
		e.fail("the path and database= name different databases", "leave one out")
		return
	}
	e.node.Database = database
}

// unescapeURL decodes %XX, and refuses a % that starts none.
func unescapeURL(s string) (string, bool) {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
			return "", false
		}
	}
	return urlDecode(s, false), true
}
