# Test guests: tests/guest/NAME.c + the library → $(B)/tests/guest/NAME.elf. Included by the top
# Makefile, which gives B, CC and Q. They are freestanding: none of its CFLAGS apply, and they are
# the same with and without SAN=1.

GUEST_DIR  := $(B)/tests/guest
GUESTS     := $(patsubst tests/guest/%.c,$(GUEST_DIR)/%.elf,$(wildcard tests/guest/*.c))
GUEST_LIB  := $(patsubst tests/guest/lib/%,$(GUEST_DIR)/lib/%.o,\
              $(wildcard tests/guest/lib/*.c tests/guest/lib/*.S))
GUEST_CC   := $(CC) -std=gnu17 -O2 -g -ffreestanding -m64 -march=x86-64 \
              -mgeneral-regs-only -mno-red-zone -mcmodel=small -fno-pic -fno-pie \
              -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables \
              -fno-strict-aliasing -I. -Itests/guest/lib -Wall -Wextra -Werror -Wshadow \
              -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wno-main
GUEST_LINK := -nostdlib -static -Wl,-T,tests/guest/lib/guest.ld -Wl,--build-id=none -Wl,-z,noexecstack \
              -Wl,-z,max-page-size=4096 -Wl,--no-warn-rwx-segments

guests: $(GUESTS) ## build the test guests

guest: $(B)/mvm guests ## tiny test guests on /dev/kvm
	$(Q)tests/guest/run --mvm $(B)/mvm

$(GUEST_DIR)/%.elf: $(GUEST_DIR)/%.o $(GUEST_LIB) tests/guest/lib/guest.ld
	@echo "  GUEST   $@"
	$(Q)$(GUEST_CC) $(GUEST_LINK) -o $@ $< $(GUEST_LIB)

$(GUEST_DIR)/lib/%.S.o: tests/guest/lib/%.S tests/guest/guest.mk
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) -MMD -MP -c -o $@ $<

$(GUEST_DIR)/lib/%.c.o: tests/guest/lib/%.c tests/guest/guest.mk
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) -MMD -MP -c -o $@ $<

$(GUEST_DIR)/%.o: tests/guest/%.c tests/guest/guest.mk
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) -MMD -MP -c -o $@ $<

-include $(wildcard $(GUEST_DIR)/*.d $(GUEST_DIR)/lib/*.d)

.PHONY: guests guest
.SECONDARY: $(GUEST_LIB) $(GUESTS:.elf=.o)
