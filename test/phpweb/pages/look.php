<?php
// Changes nothing.
session_start();
echo $_SESSION['visits'] ?? 'none';
