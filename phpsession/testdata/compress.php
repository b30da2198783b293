<?php
// The PHP side of TestPhpredisCompression: argument 1 is host:port of a Redis.
//   write HOW BASE64   what phpredis stores for a value
//   read HOW BASE64    the value phpredis makes of what is stored
[$host, $port] = explode(':', $argv[1]);
$raw = new Redis;
$raw->connect($host, (int)$port);
$how = new Redis;
$how->connect($host, (int)$port);
const HOW = ['lzf' => Redis::COMPRESSION_LZF, 'lz4' => Redis::COMPRESSION_LZ4, 'zstd' => Redis::COMPRESSION_ZSTD];
while (($line = fgets(STDIN)) !== false) {
    [$op, $name, $data] = explode(' ', rtrim($line, "\n"));
    $how->setOption(Redis::OPT_COMPRESSION, HOW[$name]);
    [$from, $to] = $op === 'write' ? [$how, $raw] : [$raw, $how];
    $from->set('k', base64_decode($data));
    fwrite(STDOUT, base64_encode($to->get('k')) . "\n");
}
