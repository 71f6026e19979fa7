/*
 * A panicking guest tells the panic device: mvm ends with status 3, after the guest has had its
 * last words, which Linux writes to the console only then.
 *
 * mvm:
 * mvm: --cpus=2
 * status: 3
 * stderr: panicked
 */
#include "guest.h"

#define PANIC_PORT 0x505
#define PANICKED   0x01

void main(void)
{
	uint8_t events = in8(PANIC_PORT);

	check(events != 0xff && (events & PANICKED), "the panic event is supported: 0x%02x",
	      events);
	print_drain();
	out8(PANIC_PORT, PANICKED);
	check(true, "it may say why");
	plan();
	for (;;)
		hlt();
}
