namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

/// <summary>Tests that measure what the whole process has, or change it, do not run beside others.</summary>
[CollectionDefinition("The meter", DisableParallelization = true)]
public sealed class MeterCollection;
