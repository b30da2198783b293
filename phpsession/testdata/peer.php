<?php
// The PHP side of the tests in php_live_test.go. It reads one request a line
// and answers with one line of JSON:
//   generate SEED          a random $_SESSION saved by all handlers, and its dump
//   read HANDLER BASE64    what PHP reads, and what it saves when nothing changes
//   unserialize KIND BASE64  one value by unserialize() or igbinary_unserialize()
error_reporting(E_ALL & ~E_DEPRECATED);
ini_set('display_errors', 'stderr');

class User {
    public $name = 'Ann';
    protected $level = 3;
    private $secret = "s\0x";
    public $friend = null;
    function with(array $values) {
        foreach ($values as $k => $v) $this->$k = $v;
        return $this;
    }
}
class Child extends User { private $secret = 'child'; public $extra = [1, 2]; }
class Typed { public int $unset; public ?string $name = null; private $kept = 1; }
class Magic {
    public $data;
    function __construct($d = null) { $this->data = $d; }
    function __serialize(): array { return is_array($this->data) ? $this->data : ['d' => $this->data]; }
    function __unserialize(array $d): void { $this->data = $d; }
}
class Sleepy {
    public $a = 1; public $b = 2; protected $c = 3; private $d = 4;
    function __sleep() { return ['a', 'c', 'd']; }
}
class Old implements Serializable {
    public $data;
    function __construct($d = null) { $this->data = $d; }
    function serialize() { return serialize($this->data); }
    function unserialize($s) { $this->data = unserialize($s); }
}
class Opaque implements Serializable {
    public $data;
    function __construct($d = null) { $this->data = $d; }
    function serialize() { return "raw|;{}" . $this->data; }
    function unserialize($s) { $this->data = substr($s, 7); }
}
enum Suit: string { case Hearts = 'H'; case Spades = 'S'; }
enum Plain { case A; case B; }

// Keeps one session in a variable.
class Memory implements SessionHandlerInterface {
    public $data = '';
    function open($path, $name): bool { return true; }
    function close(): bool { return true; }
    function read($id): string|false { return $this->data; }
    function write($id, $data): bool { $this->data = $data; return true; }
    function destroy($id): bool { $this->data = ''; return true; }
    function gc($max): int|false { return 0; }
}
$memory = new Memory;
session_set_save_handler($memory, false);

function save(string $handler, array $session): string {
    global $memory;
    ini_set('session.serialize_handler', $handler);
    $memory->data = '';
    session_id('t');
    session_start();
    // Elements one by one: references stay references.
    foreach (array_keys($session) as $k) $_SESSION[$k] = &$session[$k];
    // A reference of one holder is none, so let go of what only we held.
    $keys = array_keys($session);
    unset($session);
    session_write_close();
    return $memory->data;
}

function text(string $s): array {
    return strpos($s, "\0") === false && preg_match('//u', $s) ? ['string' => $s] : ['bytes_base64' => base64_encode($s)];
}

function dump($v, array &$ids, int $depth = 0): array {
    if ($depth > 60) throw new Exception('too deep');
    if ($v === null) return ['null' => true];
    if (is_bool($v)) return ['bool' => $v];
    if (is_int($v)) return ['int' => (string)$v];
    if (is_float($v)) {
        ini_set('serialize_precision', '17');
        $f = is_finite($v) ? json_encode($v) : (is_nan($v) ? 'NAN' : ($v > 0 ? 'INF' : '-INF'));
        ini_set('serialize_precision', '-1');
        if (is_finite($v)) $f = preg_replace('/\.0$/', '', $f);
        return ['float' => $f, 'bits' => bin2hex(pack('E', $v))];
    }
    if (is_string($v)) return text($v);
    if (is_array($v)) return ['array' => pairs($v, $ids, $depth)];
    if ($v instanceof UnitEnum) return ['enum' => get_class($v) . '::' . $v->name];
    $h = spl_object_id($v);
    if (isset($ids[$h])) return ['same_object_as' => $ids[$h][0]];
    $ids[$h] = [count($ids) + 1, $v];
    $out = ['object' => get_class($v), 'id' => $ids[$h][0]];
    if ($v instanceof Old) return $out + ['old' => dump($v->data, $ids, $depth + 1)];
    if ($v instanceof Opaque) return $out + ['custom' => text($v->serialize())];
    if (method_exists($v, '__serialize')) return $out + ['serialize_returns' => ['array' => pairs($v->__serialize(), $ids, $depth)]];
    $props = [];
    $keep = $v instanceof Sleepy ? ["a", "\0*\0c", "\0Sleepy\0d"] : null;
    foreach ((array)$v as $k => $x) {
        $k = (string)$k;
        if ($keep && !in_array($k, $keep, true)) continue;
        if (preg_match('/^\0([^\0]+)\0(.*)$/s', $k, $m)) {
            $props[] = [text($m[2]), $m[1] === '*' ? 'protected' : "private:$m[1]", dump($x, $ids, $depth + 1)];
        } else {
            $props[] = [text($k), 'public', dump($x, $ids, $depth + 1)];
        }
    }
    return $out + ['properties' => $props];
}

function pairs(array $a, array &$ids, int $depth): array {
    $out = [];
    foreach ($a as $k => $v) $out[] = [is_int($k) ? ['int' => (string)$k] : text($k), dump($v, $ids, $depth + 1)];
    return $out;
}

// Random values. $pool holds references, objects and arrays to use again.
function key_($r) {
    static $names = ['a', 'b', 'id', 'name', 'cart', "z\xff", 'é', '', '01', '-', 'x|y', 'user id', 'k;}"'];
    return mt_rand(0, 3) ? $names[array_rand($names)] . (mt_rand(0, 1) ? mt_rand(0, 20) : '') : mt_rand(-3, 300);
}
function string_() {
    switch (mt_rand(0, 4)) {
        case 0: return '';
        case 1: return ['repeat', 'me', 'Suit', 'name'][mt_rand(0, 3)];
        case 2: return random_bytes_(mt_rand(0, 20));
        case 3: return str_repeat('x', mt_rand(250, 260));
    }
    return 'O:1:"a|b":{};s:5:"' . mt_rand();
}
function random_bytes_($n) { $s = ''; while ($n-- > 0) $s .= chr(mt_rand(0, 255)); return $s; }
function int_() {
    static $edges = [0, 1, -1, 255, 256, -255, -256, 65535, 65536, -65536, 4294967295, 4294967296, -4294967296, PHP_INT_MAX, PHP_INT_MIN];
    return mt_rand(0, 1) ? $edges[array_rand($edges)] : mt_rand(-100000, 100000);
}
function float_() {
    static $edges = [0.0, -0.0, INF, -INF, NAN, 0.1, 1e15, 1e16, 1e17, 1e18, 1e-4, 1e-5, 123456789012345678.0, 5e-324, 1.7976931348623157e308, 1/3, 750.0];
    if (mt_rand(0, 1)) return $edges[array_rand($edges)];
    $f = unpack('E', random_bytes_(8))[1];
    return is_nan($f) ? 0.5 : $f;
}
function value(int $depth, array &$pool) {
    $n = mt_rand(0, $depth > 0 ? 17 : 7);
    switch ($n) {
        case 0: return null;
        case 1: return (bool)mt_rand(0, 1);
        case 2: case 3: return int_();
        case 4: return float_();
        case 5: case 6: return string_();
        case 7: return [Suit::Hearts, Suit::Spades, Plain::A][mt_rand(0, 2)];
        case 8: case 9: case 10: return array_($depth, $pool);
        case 11: // something shared: array (as PHP copies it) or object
            if ($pool['shared'] && mt_rand(0, 2)) return $pool['shared'][array_rand($pool['shared'])];
            $v = mt_rand(0, 1) ? array_($depth - 1, $pool) : new User;
            $pool['shared'][] = $v;
            return $v;
        case 12: $o = new stdClass; foreach (array_($depth, $pool) as $k => $v) $o->{$k === '' ? 'e' : $k} = $v; return $o;
        case 13: return (new User)->with(['name' => value($depth - 1, $pool), 'friend' => value($depth - 1, $pool)]);
        case 14: return (new Child)->with(['extra' => value($depth - 1, $pool)]);
        case 15: return new Magic(array_($depth, $pool));
        case 16: return [new Sleepy, new Typed, new ArrayObject([1, 'x' => 2]), new DateTime('2024-02-29 12:34:56.789', new DateTimeZone('Europe/Paris'))][mt_rand(0, 3)];
        case 17: return mt_rand(0, 2) ? new Opaque('d' . mt_rand(0, 9)) : new Old(value($depth - 1, $pool));
    }
}
function array_(int $depth, array &$pool): array {
    $a = [];
    $list = mt_rand(0, 1);
    for ($n = mt_rand(0, 5); $n > 0; $n--) {
        $k = $list ? count($a) : key_(0);
        unset($a[$k]); // or a reference there would be set, and could come to contain itself
        if (mt_rand(0, 5) === 0 && $pool['refs']) {
            $a[$k] = &$pool['refs'][array_rand($pool['refs'])];
        } else {
            $a[$k] = value($depth - 1, $pool);
        }
    }
    return $a;
}
function generate(int $seed): array {
    mt_srand($seed);
    $pool = ['shared' => [], 'refs' => []];
    for ($i = mt_rand(0, 3); $i > 0; $i--) {
        $v = value(2, $pool);
        $pool['refs'][] = &$v;
        unset($v);
    }
    $s = [];
    for ($n = mt_rand(0, 8); $n > 0; $n--) {
        $k = 'k' . mt_rand(0, 30);
        unset($s[$k]);
        if (mt_rand(0, 3) === 0 && $pool['refs']) {
            $s[$k] = &$pool['refs'][array_rand($pool['refs'])];
        } else {
            $s[$k] = value(4, $pool);
        }
    }
    if (mt_rand(0, 3) === 0) { $o = new stdClass; $o->me = $o; $s['cycle'] = $o; $s['same'] = $o; }
    return $s;
}

const HANDLERS = ['php', 'php_binary', 'php_serialize', 'igbinary'];

function answer(array $args): array {
    global $memory;
    switch ($args[0]) {
        case 'generate':
            $bytes = [];
            foreach (HANDLERS as $h) $bytes[$h] = base64_encode(save($h, generate((int)$args[1])));
            $ids = [];
            return ['bytes' => $bytes, 'value' => dump(generate((int)$args[1]), $ids)];
        case 'read':
            ini_set('session.serialize_handler', $args[1]);
            $memory->data = base64_decode($args[2] ?? '');
            $errors = [];
            set_error_handler(function ($n, $m) use (&$errors) { if ($n != E_DEPRECATED) $errors[] = $m; return true; });
            session_id('t');
            $ok = session_start();
            $ids = [];
            $value = $ok ? dump(is_array($_SESSION) ? $_SESSION : [], $ids) : null;
            if ($ok) session_write_close();
            restore_error_handler();
            return ['errors' => $errors, 'value' => $value, 'saved' => base64_encode($memory->data)];
        case 'unserialize':
            $data = base64_decode($args[2] ?? '');
            $v = $args[1] === 'igbinary' ? igbinary_unserialize($data) : unserialize($data);
            $ids = [];
            return ['value' => dump($v, $ids), 'saved' => base64_encode($args[1] === 'igbinary' ? igbinary_serialize($v) : serialize($v))];
    }
    throw new Exception('unknown request');
}

while (($line = fgets(STDIN)) !== false) {
    try {
        $out = answer(explode(' ', rtrim($line, "\n")));
    } catch (Throwable $e) {
        $out = ['errors' => [get_class($e) . ': ' . $e->getMessage()]];
    }
    fwrite(STDOUT, json_encode($out, JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE) . "\n");
}
