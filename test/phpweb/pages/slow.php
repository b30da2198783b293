<?php
// Reads, tells so, waits to be told, and writes.
session_start();
$before = $_SESSION;
file_put_contents($_GET['told'] . '.read', '');
for ($i = 0; $i < 2000 && !file_exists($_GET['told'] . '.go'); $i++) {
    usleep(10000);
    clearstatcache();
}
$_SESSION['slow'] = 'php';
echo count($before);
