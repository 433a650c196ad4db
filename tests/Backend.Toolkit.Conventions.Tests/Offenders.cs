namespace Backend.Toolkit.Conventions.Tests;

internal static class Offenders
{
    /// <summary>Fails with all of them, one a line.</summary>
    public static void ShouldBeNone<T>(this IEnumerable<T> offenders, string because = "") => string.Join('\n', offenders).Should().BeEmpty(because);
}
