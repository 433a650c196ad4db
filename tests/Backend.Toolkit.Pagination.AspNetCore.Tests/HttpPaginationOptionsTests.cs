using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

public sealed class HttpPaginationOptionsTests
{
    [Fact]
    public void The_defaults_are_valid()
    {
        new HttpPaginationOptions().Problems().Should().BeEmpty();
    }

    [Fact]
    public void Each_problem_is_a_sentence_with_the_rule_and_the_value()
    {
        var options = new HttpPaginationOptions { Name = " ", CursorParameter = "", SizeParameter = " ", BaseAddress = new Uri("/relative", UriKind.Relative) };

        options.Problems().Should().Equal(
            "HttpPaginationOptions: Name must be not empty, but is ' '.",
            "HttpPaginationOptions: CursorParameter must be the name of a parameter, but is ''.",
            "HttpPaginationOptions: SizeParameter must be the name of a parameter, but is ' '.",
            "HttpPaginationOptions: BaseAddress must be an absolute http or https address without user, query and fragment, but is /relative.");
    }

    [Theory]
    [InlineData("ftp://shop.example")]
    [InlineData("https://user:password@shop.example")]
    [InlineData("https://shop.example?")]
    [InlineData("https://shop.example/?a=b")]
    [InlineData("https://shop.example/#top")]
    [InlineData("https://shop.example/#")]
    public void An_address_that_is_no_root_is_refused(string address)
    {
        new HttpPaginationOptions { BaseAddress = new Uri(address) }.Problems().Should().ContainSingle();
    }

    [Theory]
    [InlineData("http://127.0.0.1:8080")]
    [InlineData("https://shop.example/api/")]
    public void A_root_is_accepted(string address)
    {
        new HttpPaginationOptions { BaseAddress = new Uri(address) }.Problems().Should().BeEmpty();
    }

    [Fact]
    public async Task A_service_with_invalid_options_does_not_start()
    {
        Func<Task> start = () => Server.StartAsync(static _ => { }, services => services.AddHttpPagination(o => o.SizeParameter = "CURSOR"));

        await start.Should().ThrowAsync<OptionsValidationException>().WithMessage("pages: SizeParameter must be another name than CursorParameter, but is 'CURSOR' too.");
    }

    [Fact]
    public void Adding_twice_adds_the_filter_of_controllers_once()
    {
        ServiceProvider services = new ServiceCollection().AddHttpPagination().AddHttpPagination((_, _) => { }).AddMvcCore().Services.BuildServiceProvider();

        services.GetRequiredService<IOptions<Microsoft.AspNetCore.Mvc.MvcOptions>>().Value.Filters.OfType<PageExceptionFilter>().Should().ContainSingle();
    }
}
