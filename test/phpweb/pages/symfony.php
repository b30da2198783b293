<?php
// What Symfony's NativeSessionStorage leaves in $_SESSION, without Symfony: three bags, held by reference while a
// request runs. Empty bags are taken out at the end.
namespace App;

enum Size: string { case Small = 's'; case Large = 'l'; }

class Line
{
    public ?Line $with = null;

    public function __construct(private string $sku, protected float $price, public Size $size) {}

    public function describe(): string
    {
        return $this->sku . ' ' . var_export($this->price, true) . ' ' . $this->size->name . ($this->with ? ' with ' . $this->with->describe() : '');
    }
}

session_start();
foreach (['_sf2_attributes', '_symfony_flashes', '_sf2_meta'] as $key) {
    if (!isset($_SESSION[$key]) || !is_array($_SESSION[$key])) {
        $_SESSION[$key] = [];
    }
    $bags[$key] = &$_SESSION[$key];
}
$attributes = &$bags['_sf2_attributes'];
$meta = &$bags['_sf2_meta'];
if (!isset($meta['c'])) {
    $meta = ['u' => 1700000000, 'c' => 1700000000, 'l' => 0];
}
$out = [];
switch ($_GET['do']) {
case 'fill':
    $cup = new Line('cup', 0.1, Size::Small);
    $pot = new Line("pot\0\u{e9}", 750.0, Size::Large);
    $pot->with = $cup;
    $attributes = [
        '_security.last_error' => null,
        '_locale' => 'en',
        '_security_main' => serialize([$cup, [true, 1 << 40]]),
        'cart' => ['lines' => [$cup, $pot], 'first' => $cup, 7 => 'seven'],
        '_csrf/https-form' => "\xff\x00|;}",
    ];
    break;
case 'check':
    ['lines' => [$cup, $pot], 'first' => $first] = $attributes['cart'];
    $token = unserialize($attributes['_security_main']);
    $out = [
        'order' => array_keys($attributes),
        'locale' => $attributes['_locale'],
        'null' => array_key_exists('_security.last_error', $attributes) && $attributes['_security.last_error'] === null,
        'same' => $first === $cup && $pot->with === $cup,
        'cup' => $cup->describe(),
        'pot' => bin2hex($pot->describe()),
        'seven' => $attributes['cart'][7],
        'token' => $token[0]->describe() . ' ' . json_encode($token[1]),
        'csrf' => bin2hex($attributes['_csrf/https-form']),
        'flashes' => $bags['_symfony_flashes'],
        'meta' => $meta,
    ];
    $bags['_symfony_flashes'] = []; // shown, so gone
    break;
}
foreach (['_sf2_attributes', '_symfony_flashes'] as $key) {
    if (empty($_SESSION[$key])) {
        unset($_SESSION[$key]);
    }
}
if (array_keys($_SESSION) === ['_sf2_meta']) {
    unset($_SESSION['_sf2_meta']);
}
session_write_close();
echo json_encode($out);
