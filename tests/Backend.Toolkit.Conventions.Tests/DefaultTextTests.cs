namespace Backend.Toolkit.Conventions.Tests;

/// <summary>The reader of defaults is itself code that could accept everything.</summary>
public sealed class DefaultTextTests
{
    public static TheoryData<string, object?, Type> Told => new()
    {
        { "30 s", TimeSpan.FromSeconds(30), typeof(TimeSpan) },
        { "`200 ms`", TimeSpan.FromMilliseconds(200), typeof(TimeSpan) },
        { "00:00:30", TimeSpan.FromSeconds(30), typeof(TimeSpan) },
        { "1 day", TimeSpan.FromDays(1), typeof(TimeSpan) },
        { "0", TimeSpan.Zero, typeof(TimeSpan) },
        { "infinite", Timeout.InfiniteTimeSpan, typeof(TimeSpan) },
        { "0.5", 0.5, typeof(double) },
        { "10 %", 0.1, typeof(double) },
        { "1 024", 1024, typeof(int) },
        { "1\u00a0024 circuits", 1024, typeof(int) },
        { "`null`: 30 s", null, typeof(TimeSpan?) },
        { "none", null, typeof(int?) },
        { "the argument of `AddX`", null, typeof(Func<string>) },
        { "`Retry-After`", "Retry-After", typeof(string) },
        { "none named", Array.Empty<int>(), typeof(IList<int>) },
        { "401, 403", new[] { 401, 403 }, typeof(IList<int>) },
        { "`false`", false, typeof(bool) },
        { "`DayOfWeek.Friday`", DayOfWeek.Friday, typeof(DayOfWeek) },
    };

    public static TheoryData<string, object?, Type> NotTold => new()
    {
        { "30 s", TimeSpan.FromSeconds(3), typeof(TimeSpan) },
        { "30 ms", TimeSpan.FromSeconds(30), typeof(TimeSpan) },
        { "30", TimeSpan.FromDays(30), typeof(TimeSpan) },
        { "", TimeSpan.Zero, typeof(TimeSpan) },
        { "0.5", 0.55, typeof(double) },
        { "10 %", 10.0, typeof(double) },
        { "1 024", 1, typeof(int) },
        { "1024.5", 1024, typeof(int) },
        { "5 s", null, typeof(TimeSpan?) },
        { "all", null, typeof(string) },
        { "`Retry`", "Retry-After", typeof(string) },
        { "`Retry-After`", "Retry", typeof(string) },
        { "all", Array.Empty<int>(), typeof(IList<int>) },
        { "401", new[] { 401, 403 }, typeof(IList<int>) },
        { "false", true, typeof(bool) },
        { "Friday", DayOfWeek.Monday, typeof(DayOfWeek) },
    };

    [Theory]
    [MemberData(nameof(Told))]
    public void A_document_that_tells_the_default_is_accepted(string cell, object? value, Type type)
    {
        bool told = DefaultText.Tells(cell, value, type);

        told.Should().BeTrue();
    }

    [Theory]
    [MemberData(nameof(NotTold))]
    public void A_document_that_tells_another_default_is_refused(string cell, object? value, Type type)
    {
        bool told = DefaultText.Tells(cell, value, type);

        told.Should().BeFalse();
    }
}
