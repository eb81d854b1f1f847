//! Which of Kubernetes' own test tables are replayed: each of those below has a test that says so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What it is about, the file by its path in its repository, the test in it.
type Table = (&'static str, &'static str, &'static str);

const SELECTORS: &str = "pkg/labels/selector_test.go";
const LABELS: &str = "pkg/labels/labels_test.go";
const LABEL_SELECTOR: &str = "pkg/apis/meta/v1/helpers_test.go";
const TIME: &str = "pkg/apis/meta/v1/time_test.go";
const INT_OR_STRING: &str = "pkg/util/intstr/intstr_test.go";
const TEXTS: &str = "pkg/util/validation/validation_test.go";
const IPS: &str = "pkg/util/validation/ip_test.go";
const PORT_RANGE: &str = "pkg/util/net/port_range_test.go";
const SLICE_UTILS: &str = "utils_test.go";
const PODS: &str = "util/controller_utils_test.go";
const CORE: &str = "pkg/apis/core/validation/validation_test.go";
const DISCOVERY: &str = "pkg/apis/discovery/validation/validation_test.go";
const BITMAP: &str = "pkg/registry/core/service/allocator/bitmap_test.go";
const IP_BITMAP: &str = "pkg/registry/core/service/ipallocator/bitmap_test.go";
const IP_ALLOCATOR: &str = "pkg/registry/core/service/ipallocator/ipallocator_test.go";
const PORT_ALLOCATOR: &str = "pkg/registry/core/service/portallocator/allocator_test.go";

const CIDR_ALLOCATOR: &str = "pkg/registry/core/service/ipallocator/cidrallocator_test.go";
const IP_REPAIR: &str = "pkg/registry/core/service/ipallocator/controller/repair_test.go";
const IP_ADDRESS_REPAIR: &str = "pkg/registry/core/service/ipallocator/controller/repairip_test.go";
const PORT_REPAIR: &str = "pkg/registry/core/service/portallocator/controller/repair_test.go";
const SERVICE_STORAGE: &str = "pkg/registry/core/service/storage/storage_test.go";
const SERVICE_STRATEGY: &str = "pkg/registry/core/service/strategy_test.go";

const RECONCILER: &str = "reconciler_test.go";
const CONTROLLER: &str = "endpointslice_controller_test.go";
const TRIGGER_TIME: &str = "util/trigger_time_tracker_test.go";
const TRACKER: &str = "util/endpointslice_tracker_test.go";
const TOPOLOGY: &str = "topologycache/topologycache_test.go";
const TOPOLOGY_UTILS: &str = "topologycache/utils_test.go";
const ENV: &str = "pkg/kubelet/envvars/envvars_test.go";
const KUBELET_PODS: &str = "pkg/kubelet/kubelet_pods_test.go";
const DNS: &str = "plugin/kubernetes/handler_test.go";
const DNS_ENDPOINTS: &str = "plugin/kubernetes/kubernetes_test.go";
const DNS_PARSE: &str = "plugin/kubernetes/parse_test.go";
const DNS_REVERSE: &str = "plugin/kubernetes/reverse_test.go";
const ENDPOINTS: &str = "pkg/controller/endpoint/endpoints_controller_test.go";
const MIRRORING: &str = "pkg/controller/endpointslicemirroring/reconciler_test.go";
const MIRRORING_UTILS: &str = "pkg/controller/endpointslicemirroring/utils_test.go";
const MIRRORING_CONTROLLER: &str =
    "pkg/controller/endpointslicemirroring/endpointslicemirroring_controller_test.go";

/// Tables that have to be named by a test.
#[rustfmt::skip]
const TABLES: &[Table] = &[
    ("environment", ENV, "TestFromServices"),
    ("environment", KUBELET_PODS, "TestMakeEnvironmentVariables"),
    ("DNS", DNS, "dnsTestCases"),
    ("DNS", DNS_ENDPOINTS, "TestEndpointHostname"),
    ("DNS", DNS_PARSE, "TestParseRequest"),
    ("DNS", DNS_REVERSE, "TestReverse"),
    ("selectors as text", SELECTORS, "TestSelectorParse"),
    ("selectors as text", SELECTORS, "TestDeterministicParse"),
    ("selectors as text", SELECTORS, "TestSetSelectorParser"),
    ("selectors as text", SELECTORS, "TestLexer"),
    ("selectors as text", SELECTORS, "TestLexerSequence"),
    ("selectors as text", SELECTORS, "TestParseOperator"),
    ("selectors as text", SELECTORS, "TestToString"),
    ("selectors as text", SELECTORS, "TestSetSelectorString"),
    ("selectors", SELECTORS, "TestEverything"),
    ("selectors", SELECTORS, "TestNilMapIsValid"),
    ("selectors", SELECTORS, "TestSetIsEmpty"),
    ("selectors", SELECTORS, "TestSelectorMatches"),
    ("selectors", SELECTORS, "TestSetMatches"),
    ("selectors", SELECTORS, "TestRequirementSelectorMatching"),
    ("selectors", SELECTORS, "TestRequirementConstructor"),
    ("selectors", SELECTORS, "TestRequiresExactMatch"),
    ("selectors", SELECTORS, "TestAdd"),
    ("selectors of objects", LABEL_SELECTOR, "TestLabelSelectorAsSelector"),
    ("selectors of objects", LABEL_SELECTOR, "TestLabelSelectorAsMap"),
    ("labels", LABELS, "TestSetString"),
    ("labels", LABELS, "TestLabelSelectorParse"),
    ("labels", LABELS, "TestLabelConflict"),
    ("labels", LABELS, "TestLabelMerge"),
    ("labels", TEXTS, "TestIsQualifiedName"),
    ("labels", TEXTS, "TestIsValidLabelValue"),
    ("names", TEXTS, "TestIsDNS1123Label"),
    ("names", TEXTS, "TestIsDNS1035Label"),
    ("names", TEXTS, "TestIsDNS1123Subdomain"),
    ("ports", TEXTS, "TestIsValidPortName"),
    ("ports", TEXTS, "TestIsValidPortNum"),
    ("ports", INT_OR_STRING, "TestIntOrStringUnmarshalJSON"),
    ("ports", INT_OR_STRING, "TestIntOrStringMarshalJSON"),
    ("ports", INT_OR_STRING, "TestParse"),
    ("ports", SLICE_UTILS, "TestFindPort"),
    ("ports", SLICE_UTILS, "TestGetEndpointPorts"),
    ("pods", PODS, "TestShouldPodBeInEndpoints"),
    ("pods", PODS, "TestShouldSetHostname"),
    ("addresses", IPS, "TestIsValidIP"),
    ("addresses", IPS, "TestGetWarningsForIP"),
    ("addresses", IPS, "TestIsValidCIDR"),
    ("addresses", IPS, "TestGetWarningsForCIDR"),
    ("validation", CORE, "TestValidateServiceCreate"),
    ("validation", CORE, "TestValidateServiceExternalTrafficPolicy"),
    ("validation", CORE, "TestValidateOrSetClientIPAffinityConfig"),
    ("validation", CORE, "TestValidateEndpointsCreate"),
    ("validation", CORE, "TestValidateEndpointsUpdate"),
    ("validation", CORE, "TestValidateNode"),
    ("validation", DISCOVERY, "TestValidateEndpointSlice"),
    ("time", TIME, "TestTimeUnmarshalJSON"),
    ("time", TIME, "TestTimeMarshalCBOR"),
    ("ranges", BITMAP, "TestAllocate"),
    ("ranges", BITMAP, "TestAllocateMax"),
    ("ranges", BITMAP, "TestAllocateNextMax"),
    ("ranges", BITMAP, "TestAllocateError"),
    ("ranges", BITMAP, "TestRelease"),
    ("ranges", BITMAP, "TestForEach"),
    ("ranges", BITMAP, "TestSnapshotAndRestore"),
    ("ranges", BITMAP, "TestAllocateMax_BitmapReserved"),
    ("ranges", BITMAP, "TestPreAllocateReservedFull_BitmapReserved"),
    ("ranges", IP_BITMAP, "TestAllocate"),
    ("ranges", IP_BITMAP, "TestAllocateTiny"),
    ("ranges", IP_BITMAP, "TestAllocateReserved"),
    ("ranges", IP_BITMAP, "TestAllocateSmall"),
    ("ranges", IP_BITMAP, "TestForEach"),
    ("ranges", IP_BITMAP, "TestSnapshot"),
    ("ranges", IP_BITMAP, "TestNewFromSnapshot"),
    ("ranges", IP_BITMAP, "TestClusterIPMetrics"),
    ("ranges", IP_BITMAP, "Test_calculateRangeOffset"),
    ("ranges", IP_ALLOCATOR, "TestAllocateIPAllocator"),
    ("ranges", IP_ALLOCATOR, "TestAddOffsetAddress"),
    ("ranges", IP_ALLOCATOR, "TestAllocateTinyIPAllocator"),
    ("ranges", IP_ALLOCATOR, "TestAllocateReservedIPAllocator"),
    ("ranges", IP_ALLOCATOR, "TestAllocateSmallIPAllocator"),
    ("ranges", IP_ALLOCATOR, "TestForEachIPAllocator"),
    ("ranges", IP_ALLOCATOR, "TestIPAllocatorClusterIPMetrics"),
    ("ranges", IP_ALLOCATOR, "Test_addOffsetAddress"),
    ("ranges", IP_ALLOCATOR, "Test_broadcastAddress"),
    ("ranges", IP_ALLOCATOR, "Test_hostsPerNetwork"),
    ("ranges", IP_ALLOCATOR, "Test_ipIterator"),
    ("ranges", IP_ALLOCATOR, "Test_ipIterator_Number"),
    ("ranges", IP_ALLOCATOR, "TestAllocateNextFC"),
    ("ranges", IP_ALLOCATOR, "TestUsedWithCIDRFiltering"),
    ("ranges", PORT_ALLOCATOR, "TestAllocate"),
    ("ranges", PORT_ALLOCATOR, "TestForEach"),
    ("ranges", PORT_ALLOCATOR, "TestSnapshot"),
    ("ranges", PORT_ALLOCATOR, "TestNewFromSnapshot"),
    ("ranges", PORT_ALLOCATOR, "Test_calculateRangeOffset"),
    ("ranges", PORT_ALLOCATOR, "TestNodePortMetrics"),
    ("ranges", PORT_RANGE, "TestPortRange"),
    ("ranges", CIDR_ALLOCATOR, "TestCIDRAllocateMultiple"),
    ("ranges", CIDR_ALLOCATOR, "TestCIDRAllocateShadow"),
    ("ranges", CIDR_ALLOCATOR, "TestCIDRAllocateGrow"),
    ("ranges", CIDR_ALLOCATOR, "TestCIDRAllocateShrink"),
    ("ranges", CIDR_ALLOCATOR, "TestCIDRAllocateIPv6"),
    ("ranges", CIDR_ALLOCATOR, "TestCIDRAllocateDualStack"),
    ("assignment", SERVICE_STORAGE, "TestCreateInitIPFields"),
    ("assignment", SERVICE_STORAGE, "TestNormalizeClusterIPs"),
    ("assignment", SERVICE_STORAGE, "TestPatchAllocatedValues"),
    ("assignment", SERVICE_STRATEGY, "TestDropTypeDependentFields"),
    ("repair", IP_REPAIR, "TestRepairLeak"),
    ("repair", IP_REPAIR, "TestRepairWithExisting"),
    ("repair", IP_ADDRESS_REPAIR, "TestRepairServiceIP"),
    ("repair", PORT_REPAIR, "TestRepairLeak"),
    ("repair", PORT_REPAIR, "TestRepairWithExisting"),
    ("repair", PORT_REPAIR, "TestCollectServiceNodePorts"),
    ("affinity", "roundrobin_test.go", "TestStickyLoadBalanceWorksWithMultipleEndpointsRemoveOne"),
    ("plan", "pkg/proxy/iptables/proxier_test.go", "TestNoEndpointsReject"),
    ("hints", SLICE_UTILS, "Test_hintsEnabled"),
    ("hints", TOPOLOGY, "TestAddHints"),
    ("hints", TOPOLOGY, "TestSetNodes"),
    ("hints", TOPOLOGY_UTILS, "Test_redistributeHints"),
    ("hints", TOPOLOGY_UTILS, "Test_getGivingAndReceivingZones"),
    ("hints", TOPOLOGY_UTILS, "Test_getHintsByZone"),
    ("hints", "trafficdist/trafficdist_test.go", "TestReconcileHints"),
    ("hints", RECONCILER, "TestReconcileTopology"),
    ("hints", RECONCILER, "TestReconcile_TrafficDistribution"),
    ("legacy Endpoints", ENDPOINTS, "TestTruncateEndpoints"),
    ("legacy Endpoints", ENDPOINTS, "TestSyncServiceAddresses"),
    ("legacy Endpoints", "pkg/api/v1/endpoints/util_test.go", "TestPackSubsets"),
    ("mirroring", MIRRORING, "TestReconcile"),
    ("mirroring", "pkg/controller/endpointslicemirroring/reconciler_helpers_test.go", "TestRecycleSlices"),
    ("mirroring", MIRRORING_UTILS, "TestNewEndpointSlice"),
    ("mirroring", MIRRORING_UTILS, "TestAddressToEndpoint"),
    ("mirroring", MIRRORING_CONTROLLER, "TestSyncEndpoints"),
    ("mirroring", MIRRORING_CONTROLLER, "TestShouldMirror"),
    ("slices", SLICE_UTILS, "TestSupportedServiceAddressType"),
    ("slices", SLICE_UTILS, "TestPodToEndpoint"),
    ("slices", SLICE_UTILS, "TestNewEndpointSlice"),
    ("slices", SLICE_UTILS, "TestSetEndpointSliceLabels"),
    ("slices", RECONCILER, "TestReconcilerPodMissingNode"),
    ("slices", RECONCILER, "TestReconcilerFinalizeSvcDeletionTimestamp"),
    ("slices", RECONCILER, "TestPlaceHolderSliceCompare"),
    ("packing", RECONCILER, "TestReconcileEmpty"),
    ("packing", RECONCILER, "TestReconcile1Pod"),
    ("packing", RECONCILER, "TestReconcile1EndpointSlice"),
    ("packing", RECONCILER, "TestReconcile1EndpointSlicePublishNotReadyAddresses"),
    ("packing", RECONCILER, "TestReconcileManyPods"),
    ("packing", RECONCILER, "TestReconcileEndpointSlicesSomePreexisting"),
    ("packing", RECONCILER, "TestReconcileEndpointSlicesSomePreexistingWorseAllocation"),
    ("packing", RECONCILER, "TestReconcileEndpointSlicesUpdating"),
    ("packing", RECONCILER, "TestReconcileEndpointSlicesServicesLabelsUpdating"),
    ("packing", RECONCILER, "TestReconcileEndpointSlicesServicesReservedLabels"),
    ("packing", RECONCILER, "TestReconcileEndpointSlicesRecycling"),
    ("packing", RECONCILER, "TestReconcileEndpointSlicesUpdatePacking"),
    ("packing", RECONCILER, "TestReconcileEndpointSlicesReplaceDeprecated"),
    ("packing", RECONCILER, "TestReconcileEndpointSlicesRecreation"),
    ("packing", RECONCILER, "TestReconcileEndpointSlicesNamedPorts"),
    ("packing", RECONCILER, "TestReconcileMaxEndpointsPerSlice"),
    ("packing", PODS, "TestEndpointsEqualBeyondHash"),
    ("sync", CONTROLLER, "TestSyncServiceWithSelector"),
    ("sync", CONTROLLER, "TestSyncServicePodSelection"),
    ("sync", CONTROLLER, "TestSyncServicePendingDeletion"),
    ("sync", CONTROLLER, "TestSyncServiceEndpointSlicePendingDeletion"),
    ("sync", CONTROLLER, "TestSyncServiceEndpointSliceLabelSelection"),
    ("sync", CONTROLLER, "TestSyncServiceMissing"),
    ("sync", CONTROLLER, "TestSyncServiceStaleInformer"),
    ("sync", CONTROLLER, "TestSyncService"),
    ("sync", CONTROLLER, "TestSyncServiceNoSelector"),
    ("sync", CONTROLLER, "TestServiceExternalNameTypeSync"),
    ("changes of pods", PODS, "TestDetermineNeededServiceUpdates"),
    ("changes of pods", PODS, "Test_podChanged"),
    ("trigger time", TRIGGER_TIME, "TestNewServiceNoPods"),
    ("trigger time", TRIGGER_TIME, "TestNewServiceExistingPods"),
    ("trigger time", TRIGGER_TIME, "TestPodsAdded"),
    ("trigger time", TRIGGER_TIME, "TestPodsUpdated"),
    ("trigger time", TRIGGER_TIME, "TestPodsUpdatedNoOp"),
    ("trigger time", TRIGGER_TIME, "TestPodDeletedThenAdded"),
    ("trigger time", TRIGGER_TIME, "TestServiceDeletedThenAdded"),
    ("trigger time", TRIGGER_TIME, "TestServiceUpdatedNoPodChange"),
    ("slice tracker", TRACKER, "TestEndpointSliceTrackerUpdate"),
    ("slice tracker", TRACKER, "TestEndpointSliceTrackerStaleSlices"),
    ("slice tracker", TRACKER, "TestEndpointSliceTrackerDeletion"),
    ("slice tracker", TRACKER, "TestEndpointSliceTrackerDeleteService"),
];

/// A doc comment: its words, and whether it is of a test.
struct Doc {
    words: BTreeSet<String>,
    of_test: bool,
}

impl Doc {
    /// The upstream files that it names.
    fn files(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str).filter(|word| word.ends_with("_test.go"))
    }

    fn is_of(&self, (_, file, table): &Table) -> bool {
        self.of_test && self.words.contains(*file) && self.words.contains(*table)
    }
}

/// The doc comments of a source file. What is below one, but for comments and attributes, is what it is of.
fn docs(source: &str) -> Vec<Doc> {
    let in_word = |c: char| c.is_ascii_alphanumeric() || "_-/.".contains(c);
    let mut docs = Vec::new();
    let (mut words, mut of_test) = (BTreeSet::new(), false);
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) {
            let found = text.split(|c| !in_word(c)).map(|word| word.trim_end_matches('.'));
            words.extend(found.filter(|word| !word.is_empty()).map(str::to_owned));
        } else if line.starts_with("#[") {
            of_test |= line == "#[test]";
        } else if !line.starts_with("//") {
            if !words.is_empty() {
                docs.push(Doc { words: std::mem::take(&mut words), of_test });
            }
            of_test = false;
        }
    }
    docs
}

/// The doc comments of each Rust file below `folder`, by its path.
fn docs_below(folder: &str) -> Vec<(PathBuf, Vec<Doc>)> {
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder that can be listed");
            pending.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("a source file");
            found.push((path, docs(&source)));
        }
    }
    assert!(found.len() > 10, "{folder} was not found");
    found
}

#[test]
fn docs_are_understood() {
    let source = [
        "//! Of `a_test.go`.",
        "",
        "/// A table, `dir/b_test.go`,",
        "/// `TestTwo`: and `TestOne`.",
        "#[rustfmt::skip]",
        "// And more.",
        "#[test]",
        "fn test() {}",
        "/// Of `c_test.go`, `TestOne`.",
        "const ROWS: u8 = 1;",
        "    #[test]",
        "    fn undocumented() {}",
    ];
    let docs = docs(&source.join("\n"));
    let files: Vec<(&str, bool)> =
        docs.iter().flat_map(|doc| doc.files().map(|file| (file, doc.of_test))).collect();
    assert_eq!(files, [("a_test.go", false), ("dir/b_test.go", true), ("c_test.go", false)]);
    let is_of = |file, table| docs.iter().any(|doc| doc.is_of(&("", file, table)));
    assert!(is_of("dir/b_test.go", "TestOne") && is_of("dir/b_test.go", "TestTwo"));
    assert!(!is_of("dir/b_test.go", "Test") && !is_of("b_test.go", "TestOne"));
    assert!(!is_of("c_test.go", "TestOne"));
}

#[test]
fn every_table_is_listed_once() {
    let mut seen = BTreeSet::new();
    for (area, file, table) in TABLES {
        assert!(file.ends_with("_test.go"), "{area}: {file} is no file of tests");
        assert!(seen.insert((file, table)), "{area}: {file}, {table} is listed twice");
    }
}

#[test]
fn every_table_has_a_test() {
    let mut docs = docs_below("tests/it");
    docs.extend(docs_below("src"));
    let has_test =
        |table: &Table| docs.iter().any(|(_, docs)| docs.iter().any(|doc| doc.is_of(table)));
    let missing: Vec<String> = TABLES
        .iter()
        .filter(|table| !has_test(table))
        .map(|(area, file, table)| format!("{area}: no test names `{file}` and `{table}`"))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_named_file_is_listed() {
    let listed: BTreeSet<&str> = TABLES.iter().map(|(_, file, _)| *file).collect();
    let mut unlisted = Vec::new();
    for (path, docs) in docs_below("tests/it") {
        for file in docs.iter().flat_map(Doc::files).filter(|file| !listed.contains(file)) {
            unlisted.push(format!("{}: `{file}` is not listed", path.display()));
        }
    }
    assert!(unlisted.is_empty(), "{}", unlisted.join("\n"));
}
