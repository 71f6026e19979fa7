/*
 * Plain tables: see commands.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vfio/commands.h"

void vfio_table_add(struct vfio_table *t, const char *const *cell)
{
	if (t->lines == t->room) {
		unsigned room = t->room ? 2 * t->room : 16;
		void *more = realloc(t->line, room * sizeof(*t->line));

		if (!more) {
			t->failed = true;
			return;
		}
		t->line = more;
		t->room = room;
	}
	memset(t->line[t->lines], 0, sizeof(*t->line));
	for (unsigned i = 0; i < t->columns; i++) {
		t->line[t->lines][i] = strdup(cell[i]);
		if (!t->line[t->lines][i])
			t->failed = true;
	}
	t->lines++;
}

int vfio_table_print(struct vfio_table *t, FILE *out, struct error *e)
{
	size_t width[VFIO_TABLE_COLUMNS] = { 0 };

	for (unsigned l = 0; l < t->lines && !t->failed; l++)
		for (unsigned i = 0; i < t->columns; i++)
			if (strlen(t->line[l][i]) > width[i])
				width[i] = strlen(t->line[l][i]);
	for (unsigned l = 0; l < t->lines; l++) {
		unsigned last = t->columns - 1;

		while (!t->failed && last && !*t->line[l][last])
			last--; /* no blanks at the end of a line */
		for (unsigned i = 0; i <= last && !t->failed; i++)
			fprintf(out, "%-*s%s", i < last ? (int)width[i] : 0, t->line[l][i],
				i < last ? "  " : "\n");
		for (unsigned i = 0; i < t->columns; i++)
			free(t->line[l][i]);
	}
	free(t->line);
	t->line = NULL;
	t->lines = t->room = 0;
	return t->failed ? error_set_errno(e, -ENOMEM, "cannot make the table") : 0;
}
