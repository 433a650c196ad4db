namespace Backend.Toolkit.Idempotency;

/// <summary>Within what a key is unique: two callers, or two operations of one caller, may choose the same key.</summary>
/// <param name="Operation">What is done, such as the name of an executor or of an endpoint.</param>
/// <param name="Subject">Who asks, such as a user or a tenant; empty when nobody in particular does.</param>
public readonly record struct IdempotencyScope(string Operation, string Subject = "");
