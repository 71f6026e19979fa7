/*
 * A triple fault: mvm says so, shows the registers and ends with status 3.
 *
 * mvm:
 * mvm: --cpus=2
 * status: 3
 * stderr: triple fault
 */
#include "guest.h"

void main(void)
{
	check(true, "about to fault three times");
	plan();
	triple_fault();
}
