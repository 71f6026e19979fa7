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

# At -O1, and with the sanitizers' checks, gcc is led astray about sizes; what is true of its warnings, the other builds say.
O1       := -O1 $(if $(findstring clang,$(CC)),,-Wno-format-truncation -Wno-stringop-overread)
CFLAGS   ?= $(if $(SAN),$(O1) -g1,-O2 -g)
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wpointer-arith -Wvla -Wformat=2 -Wundef
HARDEN   := -fstack-protector-strong -fPIE -fno-strict-aliasing \
            $(if $(SAN),,-D_FORTIFY_SOURCE=2 -fstack-clash-protection -fcf-protection)
SAN_ON   := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SANFLAGS := $(if $(SAN),$(SAN_ON))
CPPFLAGS += -I. -I$(B)/gen -D_GNU_SOURCE -DMVM_VERSION='"$(VERSION)"' -DMVM_DATADIR='"$(DATADIR)"'
ALLFLAGS := -std=gnu17 -pthread $(CPPFLAGS) $(CFLAGS) $(WARN) $(HARDEN) $(SANFLAGS)
LDALL    := -pthread -pie -Wl,-z,relro,-z,now,-z,noexecstack $(SANFLAGS) $(LDFLAGS)
LIBS     := -lz -luring -lslirp -lseccomp

SRC := $(wildcard vmm/*.c vmm/$(ARCH)/*.c boot/*.c boot/$(ARCH)/*.c devices/*.c devices/*/*.c \
       devices/virtio/vhost/*.c)
OBJ := $(SRC:%.c=$(B)/obj/%.o)
LIB := $(filter-out $(B)/obj/vmm/main.o,$(OBJ))

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

all: $(B)/mvm $(B)/mvm.1 $(B)/mvm.bash ## build build/mvm (and its man page and completion)

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

$(B)/gen/boot/$(ARCH)/dsdt.hex: boot/$(ARCH)/acpi_params.h
$(B)/obj/boot/$(ARCH)/acpi.o: $(B)/gen/boot/$(ARCH)/dsdt.hex

# Help texts are generated from the option table and the registry by the binary itself.
$(B)/mvm.1 $(B)/mvm.bash: $(B)/mvm.%: $(B)/mvm
	@echo "  GEN     $@"
	$(Q)$(B)/mvm --help=$(if $(filter 1,$*),man,bash) > $@

# ---- tests ------------------------------------------------------------------------------------

UNIT_SRC := $(wildcard tests/unit/*.c)
UNIT_OBJ := $(UNIT_SRC:%.c=$(B)/obj/%.o)

# The tests need not be fast themselves, nor is undefined behaviour of theirs what is looked for: that is a third of the
# time to build them.
$(UNIT_OBJ): private ALLFLAGS += $(if $(SAN),-fno-sanitize=undefined,$(O1))

# Each test is a process of its own, a thousand of them, and relocating it is a tenth of its time: 290,000 entries with
# the sanitizers. Where it lies does not matter here.
UNIT_LD := $(filter-out -pie,$(LDALL)) -no-pie -Wl,-z,lazy

$(B)/tests/unit: $(UNIT_OBJ) $(LIB)
	@mkdir -p $(@D)
	@echo "  LD      $@"
	$(Q)$(CC) $(UNIT_LD) -o $@ $^ $(LIBS) -lcriterion

include tests/guest/guest.mk

# As much of a PC BIOS as iPXE takes to start in a lab script.
LAB_BIOS := $(B)/tests/lab/bios.elf

$(LAB_BIOS): tests/lab/bios.S
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	$(Q)$(CC) -nostdlib -static -Wl,--build-id=none -Wl,-Ttext=0x9e000,--section-start=.note.PVH=0x9fbe0 \
		-Wl,-N,-e,start,--no-warn-rwx-segments -o $@ $<

tests: $(B)/mvm $(B)/tests/unit $(GUESTS) $(LAB_BIOS) ## build the tests without running them

check: setup-check ## set up this machine, build, run every test
	$(Q)$(MAKE) all tests images
	$(Q)tests/check --build $(B)

# Of mvm-compare, which is Python, the sanitizers see nothing.
check-native: ## unit, tiny-guest and mvm-compare tests only, no lab (works with SAN=1)
	$(Q)$(MAKE) tests
	$(Q)tests/check --build $(B) unit guest $(if $(SAN),,compare)

unit: $(B)/tests/unit ## unit tests only
	$(Q)LSAN_OPTIONS=suppressions=tests/unit/lsan.supp $(B)/tests/unit $(UNIT_ARGS)

# One source, two guests: one powers off at once, one halts.
BENCH_GUESTS := $(B)/tests/compare/bench-exit.elf $(B)/tests/compare/bench-halt.elf

$(BENCH_GUESTS): $(B)/tests/compare/bench-%.elf: tests/compare/bench-guest.S
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	$(Q)$(CC) $(if $(filter exit,$*),-DBENCH_EXIT) -nostdlib -static -no-pie -Wl,--build-id=none \
		-Wl,-Ttext=0x100000,--section-start=.note.PVH=0x100800 -Wl,-N,-e,start,--no-warn-rwx-segments -o $@ $<

bench: setup-bench ## measure start, memory and boot beside QEMU; a report, not a test
	$(Q)$(MAKE) all images $(BENCH_GUESTS) $(B)/tests/guest/irqcost.elf $(B)/tests/guest/blkcost.elf
	$(Q)tests/compare/bench $(BENCH_ARGS)

compare: setup-bench ## compare all models on this build, in the lab; the report is in build/compare
	$(Q)$(MAKE) all images
	$(Q)mkdir -p build/lab/out/compare build/compare
	$(Q)tests/lab/run tests/compare/matrix-net.sh >build/compare/net.tap 2>&1 & \
	tests/lab/run tests/compare/matrix-blk.sh; status=$$?; \
		wait $$! || status=1; cat build/compare/net.tap; \
		find build/lab/out/compare -maxdepth 1 -type f -exec cp {} build/compare/ \; ; \
		tests/compare/mvm-compare --from=build/lab/out/compare/blk --from=build/lab/out/compare/net \
			--report=build/compare/report.html >/dev/null || status=1; \
		echo "build/compare/report.html; its halves: blk.html and net.html"; exit $$status

# ---- lint -------------------------------------------------------------------------------------

C_FILES  := $(shell git ls-files '*.c' '*.h' 2>/dev/null)
SH_FILES := $(shell git ls-files '*.sh' .ci/run images/init 2>/dev/null)
TIDY     := $(patsubst %.c,$(B)/tidy/%.ok,$(SRC))
# How far the analyzer follows the paths of one function, a sixth of its default: the rest takes more than half its time.
TIDY_PATHS := -Xclang -analyzer-config -Xclang max-nodes=40000

lint: setup-lint ## clang-format, clang-tidy, cppcheck, shellcheck
	$(Q)$(MAKE) -j$(shell nproc) lint-all

lint-all: lint-format lint-tidy lint-cppcheck lint-shell

lint-format:
	@echo "  FORMAT"
	$(Q)clang-format --dry-run --Werror $(C_FILES)

lint-tidy: $(TIDY)

$(B)/tidy/%.ok: %.c .clang-tidy $(B)/flags | $(B)/gen/boot/$(ARCH)/dsdt.hex
	@mkdir -p $(@D)
	@echo "  TIDY    $<"
	$(Q)clang-tidy --quiet $< -- -std=gnu17 $(CPPFLAGS) $(TIDY_PATHS) > $@.log 2>/dev/null || { cat $@.log; exit 1; }
	$(Q)touch $@

lint-cppcheck: | $(B)/gen/boot/$(ARCH)/dsdt.hex
	@echo "  CPPCHECK"
	$(Q)cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr --enable=warning,portability \
		--suppress=missingIncludeSystem --suppress=unusedStructMember -j $(shell nproc) \
		$(CPPFLAGS) $(SRC)

lint-shell:
	@echo "  SHELL"
	$(Q)shellcheck -S warning -x $(SH_FILES)

# ---- running ----------------------------------------------------------------------------------

images: ## make the default guest: kernel, initramfs, disk
	$(Q)images/host-setup.sh images
	$(Q)images/build.sh

run: setup-run ## set up this machine, build, boot the default guest to a shell
	$(Q)$(MAKE) all images
	$(Q)images/run-guest $(B)/mvm $(RUN_ARGS)

lab: setup-lab ## a root shell in the emulated host that the lab tests use
	$(Q)$(MAKE) all images
	$(Q)tests/lab/run --shell

setup-%:
	$(Q)images/host-setup.sh build $*

# ---- installing -------------------------------------------------------------------------------

install: all ## into DESTDIR, under PREFIX (/usr/local)
	install -D -m 755 $(B)/mvm $(DESTDIR)$(PREFIX)/bin/mvm
	install -D -m 755 tests/compare/mvm-compare $(DESTDIR)$(PREFIX)/bin/mvm-compare
	@for f in tests/compare/compare/*.py tests/compare/compare/*.css; do \
		install -D -m 644 $$f $(DESTDIR)$(DATADIR)/compare/$${f##*/} || exit 1; \
	done
	install -D -m 644 tests/compare/models.json $(DESTDIR)$(DATADIR)/models.json
	install -D -m 644 $(B)/mvm.1 $(DESTDIR)$(PREFIX)/share/man/man1/mvm.1
	install -D -m 644 $(B)/mvm.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mvm
	@if [ -f build/images/vmlinux ]; then \
		for f in vmlinux initramfs.cpio.gz disk.img; do \
			install -D -m 644 build/images/$$f $(DESTDIR)$(DATADIR)/images/$$f || exit 1; \
		done; \
	else echo "no default guest installed (make images makes one)"; fi

clean: ## remove what was built (images and downloads stay)
	rm -rf build/obj build/gen build/tests build/tidy build/san build/clang build/mvm* build/flags

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | \
		awk -F'\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'
	@echo "  variables: SAN=1 (ASan+UBSan, in build/san), CC=clang (in build/clang), V=1, PREFIX, DESTDIR"

-include $(OBJ:.o=.d) $(UNIT_OBJ:.o=.d)

FORCE:
.PHONY: all tests check check-native unit bench compare lint lint-all lint-format lint-tidy lint-cppcheck \
	lint-shell images run lab install clean help FORCE
