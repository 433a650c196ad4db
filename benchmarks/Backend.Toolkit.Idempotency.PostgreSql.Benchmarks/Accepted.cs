public sealed record Accepted(long Order, string Status, decimal Total, string Currency);
