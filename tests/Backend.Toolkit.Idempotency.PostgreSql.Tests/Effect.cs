namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

internal sealed class Effect
{
    public string Name { get; set; } = "";
}
