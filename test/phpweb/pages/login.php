<?php
session_start();
session_regenerate_id(true); // true: the old session goes
$_SESSION['user'] = $_GET['user'];
echo 'welcome';
