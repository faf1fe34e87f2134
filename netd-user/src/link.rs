//! Acts on links, namespaces and addresses. The only home of rtnetlink.
