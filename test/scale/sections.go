package main

import (
	"context"
)

// section is a table of docs/scale.md, between markers of its name.
type section struct {
	name  string
	table func(*study, context.Context) (string, error)
}

var sections = []section{
	{"measured", (*study).measuredTable},
	{"bytes", (*study).bytesTable},
	{"memory", (*study).memoryTable},
	{"ring", (*study).ringTable},
	{"moves", (*study).movesTable},
	{"changes", (*study).changesTable},
	{"model", (*study).modelTable},
	{"rejoin", (*study).rejoinTable},
	{"simulation", (*study).simulationTable},
	{"any", (*study).anyTable},
	{"windows", (*study).windowsTable},
	{"loss", (*study).lossTable},
	{"clients", (*study).clientsTable},
	{"background", (*study).backgroundTable},
	{"limits", (*study).limitsTable},
}

// processes is how many application processes the tables take where it matters.
const processes = 100

// copies that the tables take where they do not compare.
const copies = 2
