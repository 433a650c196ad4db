namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>Takes an endpoint out of all policies, that of the whole application and those of its group or controller.</summary>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Method)]
public sealed class DisableRateLimitAttribute : Attribute;
