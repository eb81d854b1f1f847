//! How a mirror is declared: a struct of plain fields that are all optional in the JSON.

/// Declares mirrors. A field is written in camelCase unless it says `as "name"`; absent and `null` read as the
/// default, and defaults are not written.
macro_rules! mirror {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident $(as $json:literal)?: $type:ty, )*
        }
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(rename_all = "camelCase", default))]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[cfg_attr(feature = "serde", serde(
                    $(rename = $json,)?
                    deserialize_with = "crate::k8s::mirror::null_is_default",
                    skip_serializing_if = "crate::k8s::mirror::is_default"
                ))]
                pub $field: $type,
            )*
        }
    )* };
}

#[cfg(feature = "serde")]
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    use serde::Deserialize;
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(feature = "serde")]
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
