//! A Service that takes the place of another.

use alloc::string::String;
use alloc::vec::Vec;

use crate::field::{FieldError, Path, Report};
use crate::k8s::{Service, ServiceSpec};

const IMMUTABLE: &str = "may not change";

impl Service {
    /// Every mistake that admission would find in this Service as an update of `old`: those of a
    /// [new one](Self::validate), and what may not change.
    ///
    /// Names never change. The primary cluster IP and family stay unless the Service is or becomes an ExternalName;
    /// a second one may come, and may go with the policy `SingleStack`. A headless Service stays headless, but may
    /// change its families. `healthCheckNodePort` and `loadBalancerClass` stay for as long as they are needed.
    /// Everything else may change.
    ///
    /// What an update leaves out (`clusterIP`, `nodePort`, `healthCheckNodePort`) counts as taken away: filling it in
    /// from the old Service comes before.
    pub fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut report = Report::default();
        let root = Path::root("metadata");
        let (new_meta, old_meta) = (&self.metadata, &old.metadata);
        for (field, new, old) in [
            ("name", &new_meta.name, &old_meta.name),
            ("namespace", &new_meta.namespace, &old_meta.namespace),
            ("uid", &new_meta.uid, &old_meta.uid),
        ] {
            // An update need not repeat the uid.
            if new != old && (field != "uid" || !new.is_empty()) {
                report.invalid(&root.field(field), new, IMMUTABLE);
            }
        }
        let root = Path::root("spec");
        let (new, old) = (&self.spec, &old.spec);
        let external = |spec: &ServiceSpec| spec.kind == "ExternalName";
        if !external(new) && !external(old) {
            let single = new.ip_family_policy.as_deref() == Some("SingleStack");
            kept(&mut report, &root, "clusterIPs", (&new.cluster_ips, &old.cluster_ips), single);
            if !new.is_headless() && !old.is_headless() {
                kept(
                    &mut report,
                    &root,
                    "ipFamilies",
                    (&new.ip_families, &old.ip_families),
                    single,
                );
            }
        }
        let balanced = |spec: &ServiceSpec| spec.kind == "LoadBalancer";
        let checked =
            |spec: &ServiceSpec| balanced(spec) && spec.external_traffic_policy == "Local";
        let (new_port, old_port) = (new.health_check_node_port, old.health_check_node_port);
        if checked(new) && checked(old) && new_port != old_port && old_port != 0 {
            report.invalid(&root.field("healthCheckNodePort"), &new_port, IMMUTABLE);
        }
        let (new_class, old_class) = (&new.load_balancer_class, &old.load_balancer_class);
        if balanced(new) && balanced(old) && new_class != old_class {
            let class = new_class.as_deref().unwrap_or("");
            report.invalid(&root.field("loadBalancerClass"), &class, IMMUTABLE);
        }
        let mut errors = self.validate();
        errors.extend(report.into_errors());
        errors
    }
}

/// The first entry stays; a second may come, and may go if the Service is single-stack from now on.
fn kept(
    report: &mut Report,
    root: &Path<'_>,
    field: &str,
    (new, old): (&[String], &[String]),
    single_stack: bool,
) {
    let path = root.field(field);
    for (i, old) in old.iter().enumerate() {
        match new.get(i) {
            Some(new) if new == old => {}
            Some(new) => report.invalid(&path.index(i), new, IMMUTABLE),
            None if i == 0 => report.required(&path.index(0), "may not be taken away"),
            None if single_stack => {}
            None => report.invalid(
                &root.field("ipFamilyPolicy"),
                &field,
                "has to be SingleStack when the second entry is taken away",
            ),
        }
    }
}
