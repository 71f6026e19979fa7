/*
 * What the files of `mvm vfio` share: the verbs, and what they print with. The table of
 * verbs is in commands.c.
 */
#ifndef DEVICES_VFIO_COMMANDS_H
#define DEVICES_VFIO_COMMANDS_H

#include "devices/vfio/host.h"
#include "vmm/command.h"

/*
 * The verbs, for a host (tests have one of their own). Without targets, list shows every function
 * that is no bridge (all: those too).
 */
int vfio_list(const struct vfio_host *host, char *const *targets, unsigned count, bool all,
	      bool json, FILE *out, struct error *e);
int vfio_bind_all(const struct vfio_host *host, char *const *targets, unsigned count, FILE *out,
		  struct error *e);
int vfio_unbind_all(const struct vfio_host *host, char *const *targets, unsigned count, FILE *out,
		    struct error *e);

/* commands_make.c, on this machine. */
int vfio_run_vf_create(const struct command_call *call, struct error *e);
int vfio_run_vf_destroy(const struct command_call *call, struct error *e);
int vfio_run_vf_set(const struct command_call *call, struct error *e);
int vfio_run_mdev_create(const struct command_call *call, struct error *e);
int vfio_run_mdev_destroy(const struct command_call *call, struct error *e);

/* Lines of cells, printed with their columns aligned; the last cell of a line is not padded. */
#define VFIO_TABLE_COLUMNS 8
struct vfio_table {
	unsigned columns, lines, room;
	char *(*line)[VFIO_TABLE_COLUMNS];
	bool failed; /* memory ran out; printing says so */
};
/* One more line; columns cells of text, copied. */
void vfio_table_add(struct vfio_table *t, const char *const *cell);
/* Prints and frees it. */
int vfio_table_print(struct vfio_table *t, FILE *out, struct error *e);

/* "storage (nvme)": what the class code says, for people. */
const char *vfio_class_name(uint32_t class_code);

#endif
