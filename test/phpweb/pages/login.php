<?php
session_start();
session_regenerate_id(true); // true: the old session goes
$_SESSION['user'] = $_POST['user'];
echo 'welcome';
