# hnet_bridge. 'make demo' runs the main job on this machine, 'make test' runs every test; both install what they need on Debian or Ubuntu.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/hnet-robotics/hnet_bridge/overlay/api.version=$(VERSION)
UNITS   := ./cmd/... ./config/... ./dds/... ./examples/... ./overlay/... ./ros_pkg/...
# Where goroutines meet. Pure machines (overlay/path, nat, lane, pace, ros_pkg/rtps/machine) start none, so there is nothing to find.
RACE    := ./overlay/engine ./overlay/node ./overlay/wireguard ./overlay/lan ./overlay/underlay ./overlay/tun ./overlay/api ./overlay/contact ./overlay/whitelist ./overlay/clock \
           ./overlay/waiter ./dds/watch ./dds/spdp ./overlay/multicast ./overlay/socket ./test/monitor \
           ./overlay/portmap ./overlay/base/client ./overlay/base/server ./ros_pkg/hnet/... ./ros_pkg/ros/...

.PHONY: all build test unit race fuzz demo nat-matrix recovery idle relay bench ros-bench lanes redundant dds-sizes dds-scale watch-cost integrity peers small lint deps clean

all: build

# Static binaries into bin/.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

# Every test: units, simulated networks, network namespaces, real Cyclone DDS and Fast DDS. Under ten minutes on two cores; lint has vetted everything.
test: deps
	$(MAKE) lint
	HNET_LAB=$(if $(CI),required,) $(GO) test -vet=off -p 2 $(UNITS) ./test/...
	$(MAKE) race

# What needs neither rights nor packages.
unit:
	$(GO) test $(UNITS)

race:
	HNET_LAB=$(if $(CI),required,) $(GO) test -vet=off -p 2 -race -short $(RACE)

# Each fuzz target for FUZZTIME.
FUZZTIME ?= 30s
fuzz:
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz'); do \
	    echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
	  done; done

# Two robots, real DDS samples over the overlay, the peer table live. Ends on Ctrl-C.
demo: deps
	@$(GO) build -o bin/demo ./test/demo && bin/demo

# Every kind of NAT with every other: docs/nat-matrix.md.
nat-matrix: deps
	@$(GO) build -o bin/natmatrix ./test/natmatrix && bin/natmatrix -o docs/nat-matrix.md

# What may happen to a network, and how long traffic is silent: docs/recovery.md.
recovery: deps
	@$(GO) build -o bin/recovery ./test/recovery && bin/recovery -o docs/recovery.md

# What an idle node sends and receives in a day: docs/idle-traffic.md.
idle: deps
	@$(GO) build -o bin/idle ./test/idle && bin/idle -o docs/idle-traffic.md

# What goes by a Base against what goes directly: docs/relay.md.
relay: deps
	@$(GO) build -o bin/relay ./test/relay && bin/relay -o docs/relay.md

# An urgent topic beside a saturating stream; a topic on two uplinks of which one dies: docs/lanes.md.
lanes: deps
	@$(GO) build -o bin/lanes ./test/lanes && bin/lanes -o docs/lanes.md
redundant: deps
	@$(GO) build -o bin/redundant ./test/redundant && bin/redundant -o docs/lanes.md

# Large samples with our profiles and with others: docs/dds-sizes.md. 50 hosts and their discovery: docs/dds-scale.md. What watching costs: docs/traffic.md.
dds-sizes: deps
	@$(GO) build -o bin/ddssizes ./test/ddssizes && bin/ddssizes -o docs/dds-sizes.md
dds-scale: deps
	@$(GO) build -o bin/ddsscale ./test/ddsscale && bin/ddsscale -o docs/dds-scale.md
watch-cost: deps
	@$(GO) build -o bin/watch-cost ./test/watch/cost && bin/watch-cost -o docs/traffic.md

# 3 GB in every mode of the data path, by hash, and while sessions are renewed, ends move and strangers flood.
integrity: deps
	$(GO) test ./test/integrity -gb 1 -timeout 60m -v

# Thousands of known and of active peers: docs/performance/peers.md. Little memory, one processor: docs/performance/small.md.
peers: deps
	@$(GO) build -o bin/manypeers ./test/manypeers && bin/manypeers -o docs/performance/peers.md
small: deps
	@$(GO) build -o bin/manypeers ./test/manypeers && bin/manypeers -small docs/performance/small.md

# The ROS side beside Cyclone DDS: docs/ros-performance.md.
ros-bench: deps
	@$(GO) build -o bin/rosbench ./test/rosbench && bin/rosbench -o docs/ros-performance.md

# Beside wireguard-go and others, interleaved, and the parts alone: docs/performance. 20 minutes; BENCH="-rounds 1 -seconds 2" is quicker.
BENCH ?=
bench: build
	@./test/install-deps.sh lab bench
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -tags hnet_nocipher -o bin/hnetd-nocipher ./cmd/hnetd
	@$(GO) build -o bin/bench ./test/bench && bin/bench $(BENCH)

lint:
	@bad=$$(gofmt -l cmd dds examples overlay ros_pkg test); if [ -n "$$bad" ]; then echo "not formatted by gofmt:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

deps:
	@./test/install-deps.sh lab dds

clean:
	rm -rf bin
