/*
 * What booting has in common on every architecture: see boot.h. boot_load() itself is the
 * architecture's, in boot/ARCH/load.c.
 */
#include "boot/boot.h"

const char *boot_protocol_name(enum boot_protocol protocol)
{
	switch (protocol) {
	case BOOT_AUTO:
		return "auto";
	case BOOT_LINUX64:
		return "linux64";
	case BOOT_PVH:
		return "pvh";
	}
	return "?";
}
