# mvm: build, test and run. `make help` lists the targets.
#
# Everything made goes to build/ (build/san for SAN=1, build/clang for CC=clang …), nothing beside
# the sources. Variables: CC, SAN=1, V=1, DESTDIR, PREFIX, CFLAGS.

ARCH    := x86_64
PREFIX  ?= /usr/local
DATADIR ?= $(PREFIX)/share/mvm
VERSION := 0.1

ifeq ($(origin CC),default)
CC := gcc
endif

VARIANT := $(if $(SAN),san,$(if $(findstring clang,$(CC)),clang,))
B       := build$(if $(VARIANT),/$(VARIANT))
Q       := $(if $(V),,@)

CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wpointer-arith -Wvla -Wformat=2 -Wundef
HARDEN   := -fstack-protector-strong -fPIE -fno-strict-aliasing \
            $(if $(SAN),,-D_FORTIFY_SOURCE=2 -fstack-clash-protection -fcf-protection)
SANFLAGS := $(if $(SAN),-fsanitize=address,undefined -fno-sanitize-recover=undefined \
            -fno-omit-frame-pointer)
CPPFLAGS += -I. -I$(B)/gen -D_GNU_SOURCE -DMVM_VERSION='"$(VERSION)"' -DMVM_DATADIR='"$(DATADIR)"'
ALLFLAGS := -std=gnu17 -pthread $(CPPFLAGS) $(CFLAGS) $(WARN) $(HARDEN) $(SANFLAGS)
LDALL    := -pthread -pie -Wl,-z,relro,-z,now,-z,noexecstack $(SANFLAGS) $(LDFLAGS)
LIBS     := -lz

SRC := $(wildcard vmm/*.c vmm/$(ARCH)/*.c boot/*.c boot/$(ARCH)/*.c devices/*.c devices/*/*.c \
       devices/virtio/vhost/*.c)
OBJ := $(SRC:%.c=$(B)/obj/%.o)
LIB := $(filter-out $(B)/obj/vmm/main.o,$(OBJ))

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

all: $(B)/mvm ## build build/mvm (and its man page and completion)

$(B)/mvm: $(OBJ)
	@echo "  LD      $@"
	$(Q)$(CC) $(LDALL) -o $@ $^ $(LIBS)

$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(ALLFLAGS) -MMD -MP -c -o $@ $<

# The flags themselves are a dependency: another CFLAGS rebuilds.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(ALLFLAGS) $(LDALL)' | cmp -s - $@ || echo '$(CC) $(ALLFLAGS) $(LDALL)' > $@

# AML from readable ASL, as a C array.
$(B)/gen/%.hex: %.asl
	@mkdir -p $(@D)
	@echo "  IASL    $<"
	$(Q)iasl -tc -p $(B)/gen/$* $< > $(B)/gen/$*.log 2>&1 || { cat $(B)/gen/$*.log; exit 1; }

$(B)/obj/boot/$(ARCH)/acpi.o: $(B)/gen/boot/$(ARCH)/dsdt.hex

# ---- tests ------------------------------------------------------------------------------------

UNIT_SRC := $(wildcard tests/unit/*.c)
UNIT_OBJ := $(UNIT_SRC:%.c=$(B)/obj/%.o)

$(B)/tests/unit: $(UNIT_OBJ) $(LIB)
	@mkdir -p $(@D)
	@echo "  LD      $@"
	$(Q)$(CC) $(LDALL) -o $@ $^ $(LIBS) -lcriterion

unit: $(B)/tests/unit ## unit tests only
	$(Q)$(B)/tests/unit $(UNIT_ARGS)

-include $(OBJ:.o=.d) $(UNIT_OBJ:.o=.d)

clean: ## remove what was built (images and downloads stay)
	rm -rf build/obj build/gen build/tests build/san build/clang build/mvm build/flags

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | \
		awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

FORCE:
.PHONY: all unit clean help FORCE
