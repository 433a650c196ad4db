namespace Shop.Tests;

/// <summary>Services that call each other, with the toolkit and with what people use today.</summary>
public sealed class ChainTests
{
    [Fact]
    public async Task Nobody_works_for_a_user_who_has_gone()
    {
        TimeSpan without = await Chain.WorkForNobodyAsync(toolkit: false, CancellationToken.None);
        TimeSpan with = await Chain.WorkForNobodyAsync(toolkit: true, CancellationToken.None);

        without.Should().BeGreaterThan(TimeSpan.FromMilliseconds(400), "the last static timeout ends 0.7 s after the user has gone");
        with.Should().BeLessThan(without / 2);
    }

    [Fact]
    public async Task Retries_do_not_multiply_through_four_layers()
    {
        int standard = await Chain.RequestsAtTheBottomAsync(toolkit: false, CancellationToken.None);
        int ours = await Chain.RequestsAtTheBottomAsync(toolkit: true, CancellationToken.None);

        standard.Should().Be(64);
        ours.Should().BeInRange(2, 7);
    }
}
