package sessionring

import (
	"strconv"
	"strings"
	"time"
)

// given remembers where a setting was read first, for it must be the same everywhere.
type given struct {
	value  string // canonical
	offset int
	entry  string // masked
}

// readSetting reads one of sessionring's own parameters. Unlike phpredis's they are read strictly.
func (e *entry) readSetting(p phpParam, v *phpValue) {
	s := &e.p.sp.Settings
	set := *s
	text := v.str
	if v.isArray() {
		e.fail(p.name+" is an array", "write "+p.name+"=value")
		return
	}
	bad := func(must, remedy string) {
		e.fail(p.name+"="+showText(p.rawValue, text)+" "+must, remedy)
	}
	value := ""
	switch p.name {
	case paramDistribution:
		set.Distribution = Distribution(text)
		if set.Distribution != Consistent && set.Distribution != PHPRedis {
			remedy := "write distribution=consistent or distribution=phpredis"
			if near := nearest(text, []string{string(Consistent), string(PHPRedis)}); near != "" {
				remedy = "did you mean distribution=" + near + "?"
			}
			bad("is unknown", remedy)
			return
		}
		value = text
	case paramCopies:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 1 {
			bad("is no whole number from 1", "write copies=2")
			return
		}
		set.Copies, value = int(n), strconv.FormatInt(n, 10)
	case paramLifetime:
		digits := strings.TrimPrefix(text, "-")
		if digits == "" || leadingDigits(digits, len(digits)) != len(digits) {
			bad("is no whole number of seconds", "write lifetime=1440")
			return
		}
		seconds, _ := strconv.ParseInt(text, 10, 64) // out of range: the nearest limit
		switch {
		case seconds <= 0:
			set.Lifetime = DefaultLifetime
			e.warn("lifetime 0 or less is read as " + writeSeconds(DefaultLifetime) + " s, as in PHP")
		case seconds > int64(MaxLifetime/time.Second):
			set.Lifetime = MaxLifetime
			e.warn("lifetime is cut to " + writeSeconds(MaxLifetime) + " s, as in phpredis")
		default:
			set.Lifetime = time.Duration(seconds) * time.Second
		}
		value = writeSeconds(set.Lifetime)
	case paramLocking:
		on := false
		switch strings.ToLower(text) {
		case "1", "true", "yes", "on":
			on = true
		case "0", "false", "no", "off":
		default:
			bad("is neither on nor off", "write locking=1 or locking=0")
			return
		}
		set.Locking, value = &on, strconv.FormatBool(on)
	case paramLockRetries:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < -1 {
			bad("is no whole number from -1", "write lock_retries=10, or -1 for as long as lock_wait lasts")
			return
		}
		retries := int(n)
		set.LockRetries, value = &retries, strconv.Itoa(retries)
	default:
		d, ok := e.settingSeconds(p.name, text)
		if !ok {
			bad("is no number of seconds above 0", "write "+p.name+"=10, or 0.5 for half a second")
			return
		}
		switch p.name {
		case paramLockExpire:
			set.LockExpire = d
		case paramLockWait:
			set.LockWait = d
		case paramDeadline:
			set.Deadline = d
		}
		value = writeSeconds(d)
	}
	if before, ok := e.p.given[p.name]; ok {
		if before.value != value {
			e.fail(p.name+"="+value+" disagrees with "+p.name+"="+before.value+" of the entry at offset "+
				strconv.Itoa(before.offset)+", "+before.entry, "write the same on both, or on one only")
		}
		return
	}
	e.p.given[p.name] = given{value: value, offset: e.offset, entry: e.mask()}
	*s = set
	if e.p.given[paramDistribution].value == string(PHPRedis) && s.Copies > 1 && !e.p.saidOneCopy {
		e.p.saidOneCopy = true
		e.warn("distribution=phpredis means one copy, for PHP writes one; copies is read as 1")
	}
}

// settingSeconds reads a number of seconds above 0, nothing behind it.
func (e *entry) settingSeconds(name, text string) (time.Duration, bool) {
	number, _ := numericPrefix(text)
	seconds, _ := strconv.ParseFloat(number, 64)
	if number != text || seconds <= 0 {
		return 0, false
	}
	d := e.duration(name, seconds)
	return d, d > 0
}
