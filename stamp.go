package sessionring

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// Version orders the writes of one session: a later write has a greater Version, compared as a string.
// "" means that there is no session. With distribution=phpredis, where the layout has no room for one, it is
// a digest of the data: equal or not is all it tells then.
type Version string

// A stamp stands beside each copy: the version, then one letter.
//
//	0001764072000123.4711223344v
//	counter (16)    .writer(10) v value, r value that a repair brought, d tombstone
//
// While sessions move between PHP's own layout and ours, the SHA-1 of the data follows, so that a write of
// somebody who knows no stamps is noticed.
//
// Digits alone, since Redis compares Lua strings by its locale, and all locales agree on digits.
const (
	versionLen = 16 + 1 + 10
	stampLen   = versionLen + 1
	digestLen  = 40
	stampValue = 'v'
	stampMoved = 'r' // a value that a repair brought: its writer was not here
	stampDead  = 'd'

	zeroVersion Version = "0000000000000000.0000000000" // of a value without a stamp: older than all

	maxCounter = 9_999_999_999_999_999
)

// stamp is a parsed stamp; the zero stamp means that there is none.
type stamp struct {
	version Version
	dead    bool
	foreign bool // the data beside it were written later, by somebody who knows no stamps
}

// parseStamp reads a stamp; ok is false for bytes that are none, which count as no stamp.
func parseStamp(b []byte) (s stamp, ok bool) { return parseStampAs(b, "") }

// parseStampAs is parseStamp where the version is likely to be a known one, which then needs no memory of its own.
func parseStampAs(b []byte, known Version) (s stamp, ok bool) {
	if (len(b) != stampLen && len(b) != stampLen+digestLen) || b[16] != '.' || (b[versionLen] != stampValue && b[versionLen] != stampMoved && b[versionLen] != stampDead) {
		return stamp{}, false
	}
	for i, ch := range b[:versionLen] {
		if i != 16 && (ch < '0' || ch > '9') {
			return stamp{}, false
		}
	}
	if string(known) != string(b[:versionLen]) {
		known = Version(b[:versionLen])
	}
	return stamp{version: known, dead: b[versionLen] == stampDead}, true
}

// sameStamp reports whether two stamps as they stand say the same, however they came there.
func sameStamp(a, b []byte) bool {
	if len(a) != len(b) || len(a) < stampLen {
		return string(a) == string(b)
	}
	return string(a[:versionLen]) == string(b[:versionLen]) && (a[versionLen] == stampDead) == (b[versionLen] == stampDead) &&
		string(a[stampLen:]) == string(b[stampLen:])
}

// brought is the stamp text of a value that a repair writes.
func brought(text string) string {
	return text[:versionLen] + string(rune(stampMoved)) + text[stampLen:]
}

// digestOf returns the digest behind a stamp, "" where there is none.
func digestOf(b []byte) string {
	if len(b) != stampLen+digestLen {
		return ""
	}
	return string(b[stampLen:])
}

func (s stamp) String() string {
	if s.dead {
		return string(s.version) + string(rune(stampDead))
	}
	return string(s.version) + string(rune(stampValue))
}

// newer reports whether s beats t: a tombstone beats every value, for an id is never used again.
func (s stamp) newer(t stamp) bool {
	if s.dead != t.dead {
		return s.dead
	}
	if s.version != t.version {
		return s.version > t.version
	}
	return s.foreign && !t.foreign
}

// clock makes versions: hybrid logical time (Kulkarni et al., "Logical Physical Clocks", 2014). A version is
// greater than each that this clock made or saw, else the time in milliseconds; the writer's tag makes it
// unique. A wall clock that is wrong, even by years, only makes later writers count from there; once a node was
// met its time is used, so that clients with different clocks count alike.
type clock struct {
	last  atomic.Uint64
	ahead atomic.Int64 // what to add to this host's time, ms: the nodes' clocks and other versions tell
	met   atomic.Bool  // a node told its time
	tag   string
	now   func() time.Time
}

func newClock(now func() time.Time) *clock {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: it would have ended the process
	if now == nil {
		now = time.Now
	}
	return &clock{tag: fmt.Sprintf("%010d", binary.LittleEndian.Uint64(b[:])%1e10), now: now}
}

// next returns a version greater than all seen.
func (c *clock) next() Version { return Version(c.nextStamp()[:versionLen]) }

// nextStamp is the stamp of a value with the next version.
func (c *clock) nextStamp() string {
	ms := uint64(max(c.now().UnixMilli()+c.ahead.Load(), 1))
	for {
		last := c.last.Load()
		n := max(last+1, ms)
		if n > maxCounter {
			n = maxCounter // 300,000 years on; order then rests on the tag
		}
		if c.last.CompareAndSwap(last, n) {
			var b [stampLen]byte
			for i := 15; i >= 0; i-- {
				b[i] = byte('0' + n%10)
				n /= 10
			}
			b[16] = '.'
			copy(b[17:], c.tag)
			b[versionLen] = stampValue
			return string(b[:])
		}
	}
}

// saw makes later versions greater than v.
func (c *clock) saw(v Version) {
	if len(v) != versionLen {
		return
	}
	n, err := strconv.ParseUint(string(v[:16]), 10, 64)
	if err != nil || n <= c.last.Load() {
		return // what was made or seen before says nothing new
	}
	c.runAhead(int64(n) - c.now().UnixMilli())
	for {
		last := c.last.Load()
		if n <= last || c.last.CompareAndSwap(last, n) {
			return
		}
	}
}

// runAhead keeps this clock at least so far ahead of the host's. Clocks that met run side by side from then
// on, so that writes that never meet on one node (a stand-in's and the old copy's) still order by when they
// were made.
func (c *clock) runAhead(ms int64) {
	for {
		known := c.ahead.Load()
		if ms <= known || c.ahead.CompareAndSwap(known, ms) {
			return
		}
	}
}

// nodeTime takes a node's time as a common reference of all clients, whatever their hosts' clocks say: the
// first one met replaces the host's, and the latest of the nodes' is kept.
func (c *clock) nodeTime(t time.Time) {
	offset := t.Sub(c.now()).Milliseconds()
	if !c.met.Swap(true) {
		c.ahead.Store(offset)
		return
	}
	c.runAhead(offset)
}

// script is a Lua script with its SHA-1, the name under which Redis caches it.
type script struct {
	text, sha string
	bit       uint32 // in node.scripts
}

func newScript(bit uint32, text string) *script {
	sum := sha1.Sum([]byte(text))
	return &script{text, hex.EncodeToString(sum[:]), 1 << bit}
}

// writeScript stores value and stamp unless the stamp there is newer or a tombstone.
//
//	KEYS value, stamp [, lock]    ARGV stamp, ttl ms, data [, expected version or "*" [, lock token [, "?"]]]
//
// With "?" the lock may also be nobody's: for nodes that it was not taken on.
//
// It answers 1 when stored, else the stamp that stands in the way, or "L" when the lock is not the token's.
// The type is looked at only where no stamp is: a stamped key is ours. A repair that brings what is there already
// leaves the stamp as it is: its writer was here.
var writeScript = newScript(0, `local s=redis.call('GET',KEYS[2])
if ARGV[5] then
 local l=redis.call('GET',KEYS[3])
 if l~=ARGV[5] and (l or ARGV[6]~='?') then return 'L' end
end
if s then
 if string.byte(s,28)==100 then return s end
 local v=string.sub(s,1,27)
 if v>string.sub(ARGV[1],1,27) then return s end
 if v==string.sub(ARGV[1],1,27) and string.byte(ARGV[1],28)==114 then ARGV[1]=s end
 if ARGV[4] and ARGV[4]~='*' and v>ARGV[4] and v~=string.sub(ARGV[1],1,27) and redis.call('EXISTS',KEYS[1])==1 then return s end
else
 local t=redis.call('TYPE',KEYS[1]).ok
 if t~='none' then
  if t~='string' then return redis.error_reply('WRONGTYPE key holds a '..t) end
  if ARGV[4]=='' then return '0000000000000000.0000000000v' end
 end
end
redis.call('SET',KEYS[1],ARGV[3],'PX',ARGV[2])
redis.call('SET',KEYS[2],ARGV[1],'PX',ARGV[2])
return 1`)

// deleteScript removes the value and leaves a tombstone that lives as long as an old copy could.
// DEL comes first: after one write a script may go on even where maxmemory is reached.
//
//	KEYS value, stamp    ARGV stamp, ttl ms    answers whether there was a value, and the tombstone's ttl
//
// Of two tombstones the one with the greater version stays, so that copies agree whatever the order.
var deleteScript = newScript(1, `local s=redis.call('GET',KEYS[2])
if not s then
 local k=redis.call('TYPE',KEYS[1]).ok
 if k~='none' and k~='string' then return redis.error_reply('WRONGTYPE key holds a '..k) end
end
local t=math.max(tonumber(ARGV[2]),redis.call('PTTL',KEYS[1]),redis.call('PTTL',KEYS[2]))
local n=redis.call('DEL',KEYS[1])
local d=ARGV[1]
if s and string.byte(s,28)==100 and string.sub(s,1,27)>string.sub(d,1,27) then d=s end
redis.call('SET',KEYS[2],d,'PX',string.format('%.0f',t))
return {n,t}`)

// touchScript extends the life of value and stamp, never a tombstone's: that one may have to live longer. As a part of
// a read ("v" with the value, "s" without) it leaves a life alone that is longer already.
//
//	KEYS value, stamp    ARGV ttl ms [, "v" or "s"]    answers the value (with "v"), the stamp, whether it was there
var touchScript = newScript(8, `local s=redis.call('GET',KEYS[2])
if s then
 if string.byte(s,28)==100 then return {false,s,0} end
else
 local k=redis.call('TYPE',KEYS[1]).ok
 if k~='none' and k~='string' then return redis.error_reply('WRONGTYPE key holds a '..k) end
end
local function touch(k)
 if ARGV[2] then
  local p=redis.call('PTTL',k)
  if p==-1 or p>=tonumber(ARGV[1]) then return 1 end
 end
 return redis.call('PEXPIRE',k,ARGV[1])
end
local n=touch(KEYS[1])
if s then touch(KEYS[2]) end
if ARGV[2]=='v' then return {redis.call('GET',KEYS[1]),s,n} end
return {false,s,n}`)

// hintDoneScript takes a hint back if the copy beside it is still the one that was brought over.
//
//	KEYS hints, stamp    ARGV id, stamp as seen or ""
var hintDoneScript = newScript(9, `if (redis.call('GET',KEYS[2]) or '')~=ARGV[2] then return 0 end
return redis.call('SREM',KEYS[1],ARGV[1])`)

// forgetScript removes a copy, stamp and all, if the stamp is still the one given: for stand-in copies.
//
//	KEYS value, stamp    ARGV stamp
var forgetScript = newScript(2, `if redis.call('GET',KEYS[2])==ARGV[1] then redis.call('DEL',KEYS[1],KEYS[2]) return 1 end
return 0`)

// plainSwapScript stores data if the value's digest is the one given ("": if there is none), for the layout
// without stamps.
//
//	KEYS value [, lock]    ARGV ttl ms, data, digest or "*" [, lock token]
var plainSwapScript = newScript(3, `if ARGV[4] and redis.call('GET',KEYS[2])~=ARGV[4] then return 'L' end
local d=redis.call('GET',KEYS[1])
local h=''
if d then h=redis.sha1hex(d) end
if ARGV[3]~='*' and h~=ARGV[3] then return 'C' end
redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[1])
return 1`)

// adoptScript puts a stamp beside data that somebody wrote who knows no stamps, if both are still as they were
// seen.
//
//	KEYS value, stamp    ARGV stamp as seen or "", digest of the data, new stamp
var adoptScript = newScript(6, `if (redis.call('GET',KEYS[2]) or '')~=ARGV[1] then return 0 end
local d=redis.call('GET',KEYS[1])
if not d or redis.sha1hex(d)~=ARGV[2] then return 0 end
local t=redis.call('PTTL',KEYS[1])
if t>0 then redis.call('SET',KEYS[2],ARGV[3],'PX',t) else redis.call('SET',KEYS[2],ARGV[3]) end
return 1`)

// releaseScript is phpredis's own way to release a lock; a lease ends by it too.
//
//	KEYS lock    ARGV token
var releaseScript = newScript(4, `if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`)

// renewScript prolongs a lock or a lease that is still the token's.
//
//	KEYS lock    ARGV token, ttl ms
var renewScript = newScript(5, `if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('PEXPIRE',KEYS[1],ARGV[2]) end
return 0`)

// plainVersion is the Version of data in the layout without stamps.
func plainVersion(data []byte) Version {
	sum := sha1.Sum(data)
	return Version(hex.EncodeToString(sum[:]))
}
